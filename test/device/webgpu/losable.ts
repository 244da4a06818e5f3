/** A GPU under the name "pretence" that can be lost at any moment, and what its one error has to be. */
import { expect } from "vitest";
import { DeviceError } from "../../../src/format/errors.ts";
import { wrapped } from "./wrap.ts";
import { type Pretence, pretended } from "./wrapped.ts";

/** By its owner; by itself. */
export const LOSSES = ["destroyed", "unknown"] as const;
export type Loss = (typeof LOSSES)[number];

const MESSAGES: Record<Loss, RegExp> = {
  destroyed: /^gpu: pretence: the device was lost \(destroyed\): [^\n]*$/,
  unknown: /^gpu: pretence: the device was lost \(unknown\): it fell off the bus\. Load the model again\.$/,
};

export interface Losable {
  gpu: GPU;
  /** Loses the device that was opened last. */
  lose(): void;
}

export async function losable(loss: Loss, pretence: Pretence = {}): Promise<Losable> {
  let lose = () => {};
  const { gpu } = await pretended({
    ...pretence,
    device(opened) {
      let tell: (info: unknown) => void;
      const lost = new Promise((resolve) => {
        tell = resolve;
      });
      lose = () => {
        opened.destroy();
        // The news may come after calls have failed.
        setTimeout(() => tell({ reason: "unknown", message: "it fell off\nthe bus" }), 20);
      };
      return loss === "unknown" ? wrapped(opened, { lost }) : opened;
    },
  });
  return { gpu, lose: () => lose() };
}

/** What a promise rejects with. */
export function rejection(call: Promise<unknown>): Promise<Error> {
  return call.then(
    () => Promise.reject(new Error("it resolved")),
    (error: Error) => error,
  );
}

/** Each call, after the one before it, rejects with the loss: one line, and the same object. */
export async function expectLost(loss: Loss, ...calls: (() => Promise<unknown>)[]): Promise<void> {
  const errors: Error[] = [];
  for (const call of calls) errors.push(await rejection(call()));
  const [first] = errors;
  expect(first).toBeInstanceOf(DeviceError);
  expect(first.message).toMatch(MESSAGES[loss]);
  for (const error of errors) expect(error).toBe(first);
}
