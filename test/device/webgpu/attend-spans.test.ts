/** How many workgroups attend: no more than have something to read. */
import { expect, it } from "vitest";
import { attendDispatchesOf } from "./attend-layer.ts";
import { ALL_TRAITS } from "./gpu.ts";

it("a prompt over a packed cache attends to each of its parts in one span", () => {
  const shape = { format: "k4c-v4r-n32-f32", heads: 16, kvHeads: 2, headDim: 128, pages: 128 };
  const none = { outputs: 0, singles: [], spanned: 0, pieces: 2, sampled: 0, runs: 1, packs: 0 };
  const step = { ...none, tokens: 64, longs: [{ position: 3200, tokens: 64, packed: 3168 }] };
  const prompts = attendDispatchesOf(ALL_TRAITS, shape).filter(
    ({ label, kernel }) => label === "attendPrompt" && kernel.values.MOST_SPANS === 1,
  );
  // In two forms, of packed positions and of others.
  expect(prompts.map(({ workgroups }) => workgroups(step))).toEqual(Array(4).fill([8, 2, 1]));
});
