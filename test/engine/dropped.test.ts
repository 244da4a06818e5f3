/** Generations that are left without a word give their session back. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, expect, it } from "vitest";
import { load } from "../../src/answer/load.ts";
import type { EngineModel } from "../../src/engine/language-model.ts";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

let model: EngineModel;
beforeAll(async () => {
  model = await load("needle", { context: 256, threads: 1 });
});
afterAll(() => model.close());

const generate = () => model.generate("What is a whale?", { maxTokens: 8, ignoreEnd: true });

/** Until nobody has a session, or for a hundred collections. */
async function running(): Promise<number> {
  for (let i = 0; i < 100 && model.activity.running > 0; i++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return model.activity.running;
}

it("takes no session before it is iterated", () => {
  generate();
  expect(model.activity).toEqual({ running: 0, waiting: 0 });
});

it("gives it back when a loop ends by an error", async () => {
  const failing = async () => {
    for await (const _ of generate()) throw new Error("no");
  };
  await expect(failing()).rejects.toThrow("no");
  expect(model.activity.running).toBe(0);
});

it.each(["its iterator", "itself"])("gives it back when %s is dropped after a piece", async (what) => {
  const take = async () => {
    const generation = generate();
    const iterator = generation[Symbol.asyncIterator]();
    await iterator.next();
    return what === "itself" ? generation : iterator;
  };
  let held: unknown = await take();
  expect(held).toBeTruthy();
  collect();
  await new Promise((resolve) => setImmediate(resolve));
  // Whoever has either may go on.
  expect(model.activity.running).toBe(1);
  held = null;
  expect(await running()).toBe(0);
  expect((await generate().result()).generatedTokens).toBe(8);
});

it("gives it back when saving is dropped on the way", async () => {
  await generate().result();
  const begin = async () => {
    await model.saveSession("What is a whale?").next();
  };
  await begin();
  expect(await running()).toBe(0);
});
