/** The order of a continuation's submits, how many are under way, and its ends. No GPU: steps are promises. */
import { describe, expect, it } from "vitest";
import { RunAhead } from "../../../src/device/webgpu/run-ahead.ts";
import { NOT_PROVEN } from "../../../src/device/webgpu/sample.ts";
import { DeviceError } from "../../../src/format/errors.ts";

/** A device whose steps finish when the test says so. Chooses 100, 101, ... */
function scripted(options: { position?: number; most?: number } = {}) {
  const started: (number | null)[] = [];
  const open: { resolve(id: number): void; reject(error: unknown): void }[] = [];
  const ahead = new RunAhead({
    position: options.position ?? 7,
    most: options.most ?? 100,
    start(position) {
      started.push(position);
      return new Promise((resolve, reject) => open.push({ resolve, reject }));
    },
  });
  return { ahead, started, open, finish: (i: number) => open[i].resolve(100 + i) };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("a continuation", () => {
  it("starts nothing by itself, then samples, then steps from its position on, four under way", async () => {
    const { ahead, started, finish } = scripted();
    expect(started).toEqual([]);
    const first = ahead.next();
    expect(started).toEqual([null, 7, 8, 9]);
    finish(0);
    expect(await first).toBe(100);
    expect(started.length).toBe(4);
    const second = ahead.next();
    expect(started).toEqual([null, 7, 8, 9, 10]);
    finish(1);
    finish(2);
    expect(await second).toBe(101);
    expect(await ahead.next()).toBe(102);
  });

  it("chooses no more than `most`, without a step for the last", async () => {
    const { ahead, started, finish } = scripted({ most: 3 });
    for (let i = 0; i < 3; i++) {
      const next = ahead.next();
      finish(i);
      expect(await next).toBe(100 + i);
    }
    expect(started).toEqual([null, 7, 8]);
    await expect(ahead.next()).rejects.toThrow("3");
    expect(await ahead.stop()).toEqual({ position: 9 });
  });

  it("that stops starts nothing, waits for what is under way and tells how far it wrote", async () => {
    const { ahead, started, finish } = scripted();
    const first = ahead.next();
    finish(0);
    await first;
    let isDone = false;
    const stopped = ahead.stop().then((end) => {
      isDone = true;
      return end;
    });
    await turn();
    expect(isDone).toBe(false);
    for (const i of [1, 2, 3]) finish(i);
    expect(await stopped).toEqual({ position: 10 });
    expect(await ahead.stop()).toEqual({ position: 10 });
    expect(started.length).toBe(4);
  });

  it("stopped before it began has written nothing", async () => {
    const { ahead } = scripted({ position: 5 });
    expect(await ahead.stop()).toEqual({ position: 5 });
  });

  it("says null once it cannot choose, and no more after it", async () => {
    const { ahead, open, finish } = scripted();
    const first = ahead.next();
    finish(0);
    await first;
    const second = ahead.next();
    open[1].resolve(NOT_PROVEN);
    finish(2);
    expect(await second).toBeNull();
    expect(await ahead.next()).toBeNull();
  });

  it("that fails gives its first error for each further call, starts nothing and can be stopped", async () => {
    const { ahead, started, open, finish } = scripted();
    const first = ahead.next();
    finish(0);
    await first;
    const lost = new DeviceError("gpu", "lost");
    open[1].reject(lost);
    for (const i of [2, 3]) open[i].reject(new Error("an echo"));
    await expect(ahead.next()).rejects.toBe(lost);
    const count = started.length;
    await expect(ahead.next()).rejects.toBe(lost);
    expect(started.length).toBe(count);
    open.slice(4).forEach(({ reject }) => {
      reject(new Error("an echo"));
    });
    expect(await ahead.stop()).toEqual({ position: 7 + count - 1 });
  });

  it("whose submit throws rejects, too", async () => {
    const ahead = new RunAhead({
      position: 0,
      most: 9,
      start() {
        throw new DeviceError("gpu", "closed");
      },
    });
    await expect(ahead.next()).rejects.toThrow("closed");
    await ahead.stop();
  });
});
