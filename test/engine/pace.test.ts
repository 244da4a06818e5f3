/** How many rows of prompts a step gets, by a clock of the test's. */
import { describe, expect, it } from "vitest";
import { Pace } from "../../src/engine/pace.ts";

/** Steps of `base` ms and so many for each row of a prompt. */
function pace(stretch: number, base: number, row: number) {
  let now = 0;
  const made = new Pace(stretch, () => now);
  const step = (rows: number, isSeen = true) => {
    const ended = made.begin({ promptRows: rows, rows: 1 });
    now += base + rows * row;
    if (isSeen) ended();
  };
  return {
    pace: made,
    step,
    wait: (ms: number) => (now += ms),
    begin: (rows: number) => made.begin({ promptRows: rows, rows: 1 }),
  };
}

describe("prompt rows", () => {
  it("are few until something is known, then as many as fit the time, in whole pages", () => {
    const { pace: found, step } = pace(50, 10, 0.1);
    expect(found.promptRows()).toBe(32);
    step(0);
    step(256);
    // 40 ms at 0.1 ms each.
    expect(found.promptRows()).toBe(384);
  });

  it("are never fewer than a page, whatever it takes", () => {
    const { pace: found, step } = pace(50, 400, 20);
    step(0);
    step(32);
    expect(found.promptRows()).toBe(32);
  });

  it("follow a device that slows down", () => {
    const fast = pace(50, 10, 0.1);
    for (let i = 0; i < 5; i++) fast.step(256);
    const before = fast.pace.promptRows();
    for (let i = 0; i < 20; i++) {
      const ended = fast.begin(256);
      fast.wait(10 + 256 * 0.4);
      ended();
    }
    expect(fast.pace.promptRows()).toBeLessThan(before / 2);
  });

  it("count steps whose end is not seen with the next one that is, but no time in which nothing ran", () => {
    const { pace: found, step, wait } = pace(50, 10, 0.1);
    step(0);
    step(256, false);
    step(256, false);
    step(256);
    expect(found.promptRows()).toBe(384);
    step(256, false);
    found.idle();
    wait(10_000);
    step(256);
    expect(found.promptRows()).toBe(384);
  });
});
