/** How many pages pools need: never fewer than texts hold, by texts that are followed page by page. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { blocksOf, poolPages, textPages } from "../../src/cache/layers.ts";
import { PAGE_SLOTS } from "../../src/device/contract.ts";

describe("poolPages", () => {
  it("is all of a full layer's tokens, and a sliding layer's windows, rows, and one text more", () => {
    const needs = { cacheTokens: 1000, texts: 1, maxTokens: 100 };
    expect(poolPages(null, needs)).toBe(32);
    expect(poolPages(512, needs)).toBe(32);
    expect(poolPages(64, needs)).toBe(2 * 3 + 4 + 1);
    expect(poolPages(64, { ...needs, texts: 4 })).toBe(5 * 3 + 4 + 4);
    expect(poolPages(64, { ...needs, cacheTokens: 320 })).toBe(10);
  });

  it("of a window is enough for texts that grow in steps, and leaves one text's window to spare", () => {
    const step = fc.array(fc.nat(60), { minLength: 4, maxLength: 4 });
    const property = fc.property(
      fc.integer({ min: 1, max: 100 }),
      fc.integer({ min: 4, max: 150 }),
      fc.array(step, { minLength: 1, maxLength: 20 }),
      (window, maxTokens, steps) => {
        const pages = poolPages(window, { cacheTokens: 1e6, texts: 4, maxTokens });
        const positions = [0, 0, 0, 0];
        for (const wanted of steps) {
          let left = maxTokens;
          let held = 0;
          for (let text = 0; text < 4; text++) {
            const rows = Math.min(left, wanted[text]);
            left -= rows;
            const position = positions[text];
            // What the last token sees, which may have to be run again, to the step's last row.
            const first = Math.max(0, Math.floor((position - 1 - window + 1) / PAGE_SLOTS));
            held += blocksOf(position + rows) - first;
            positions[text] += rows;
          }
          expect(held).toBeLessThanOrEqual(pages);
        }
      },
    );
    fc.assert(property, { numRuns: 300 });
  });
});

describe("textPages", () => {
  it("is all of a full layer, and what a window touches", () => {
    expect([textPages(null, 100), textPages(512, 100), textPages(64, 1000), textPages(33, 1000)]).toEqual([
      4, 4, 3, 3,
    ]);
  });
});
