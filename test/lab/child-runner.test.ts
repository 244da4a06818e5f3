/** A child that crashes, hangs or is killed is an error of its experiment, and the next one runs all the same. */
import { afterAll, expect, it } from "vitest";
import type { Claim } from "../../src/lab/book.ts";
import { ChildRunner } from "../../src/lab/child-runner.ts";
import { zeroExperiment, zeroSpec, zeroText } from "./zero.ts";

const module = new URL("./zero-runner.js", import.meta.url).href;
const signal = new AbortController().signal;
/** Nothing here waits for this unless it fails. */
const LONG_MS = 600_000;

function claimOf(draw: number): Claim {
  const { id, experiment } = zeroExperiment(draw);
  return { id, experiment, spec: zeroSpec.body, text: zeroText, attempt: 1 };
}

const options = { 1: "crash", 2: "memory", 3: "error", 4: "deaf", 5: "hang" };
const runner = await ChildRunner.open({ module, models: [], options, firstMs: LONG_MS });
afterAll(() => runner.close());

it("gives results, and errors by their names, without losing its child", async () => {
  expect(await runner.run(claimOf(0), signal)).toMatchObject({ kind: "result", experiment: claimOf(0).id });
  await expect(runner.run(claimOf(3), signal)).rejects.toMatchObject({
    name: "RangeError",
    message: "draw is too large",
  });
  expect(await runner.run(claimOf(6), signal)).toMatchObject({ experiment: claimOf(6).id });
});

it("tells how a child ended and what it said last, and starts another", async () => {
  await expect(runner.run(claimOf(1), signal)).rejects.toThrow(
    "the child ended with exit code 132: illegal instruction, in a way",
  );
  await expect(runner.run(claimOf(2), signal)).rejects.toThrow("SIGKILL (out of memory?)");
  expect(await runner.run(claimOf(0), signal)).toMatchObject({ kind: "result" });
});

it("ends a child that is told to stop, or takes too long and hears nothing", async () => {
  const stop = new AbortController();
  const running = runner.run(claimOf(5), stop.signal);
  stop.abort();
  await expect(running).rejects.toMatchObject({ code: "aborted" });
  const hasty = await ChildRunner.open({ module, models: [], options, firstMs: 300, graceMs: 1 });
  await expect(hasty.run(claimOf(4), signal)).rejects.toMatchObject({ name: "TimeoutError" });
  await hasty.close();
});

it("refuses at once when its models cannot be opened", async () => {
  await expect(ChildRunner.open({ module, models: ["broken"] })).rejects.toThrow("broken is no model");
});
