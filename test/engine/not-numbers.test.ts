/**
 * Numbers that are none: weights are refused when they are read, and logits end the text that they belong to with one error
 * that names them, however tokens are chosen and on every device; other texts go on.
 */
import { describe, expect, it } from "vitest";
import type { Device } from "../../src/device/contract.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { type GenerateOptions, Generation, generateTokens } from "../../src/engine/generate.ts";
import { Text } from "../../src/engine/text.ts";
import { FormatError, LogitsError } from "../../src/format/errors.ts";
import { changedModel, expectBeyondFloat32 } from "./changed-model.ts";
import { piecesTokenizer, scripted } from "./scripted.ts";

const LETTERS = [..."abcdefgh"];
const VOCAB = LETTERS.length + 1;
const PROMPT = [1, 2, 3];
const ODD = 5;
/** What ODD's logit is after three tokens. */
const WRONG: [string, Float32Array, string][] = [
  ["one NaN", logits(Number.NaN), `not all finite numbers: token ${ODD} has NaN`],
  ["an infinity", logits(Number.POSITIVE_INFINITY), `not all finite numbers: token ${ODD} has Infinity`],
  ["nothing but NaN", new Float32Array(VOCAB).fill(Number.NaN), "not all finite numbers: token 0 has NaN"],
  ["nothing that may come", new Float32Array(VOCAB).fill(Number.NEGATIVE_INFINITY), "all -Infinity"],
];

function logits(odd: number): Float32Array {
  return Float32Array.from({ length: VOCAB }, (_, id) => (id === ODD ? odd : id / 10));
}

/** Hardly anything else comes. */
const CLEAR = Float32Array.from({ length: VOCAB }, (_, id) => (id === 7 ? 50 : 0));

/** All but ODD. */
const ALLOWED = Int32Array.of(~(1 << ODD));
const constraint = (wait: () => Promise<void> | undefined) => ({
  async allowed() {
    await wait();
    return ALLOWED;
  },
  accept() {},
});
const WAYS: [string, GenerateOptions, boolean][] = [
  ["the likeliest", {}, false],
  ["drawn of a few", { temperature: 1, topK: 3 }, false],
  ["drawn of all", { temperature: 1, topK: 0, minP: 0 }, false],
  ["a device's likeliest", {}, true],
  ["a device's draw", { temperature: 1, topK: 3 }, true],
  ["few candidates", { repeatPenalty: 1.2 }, true],
  ["likelihoods", { logprobs: 2 }, true],
  ["a constraint", { constraint: constraint(async () => {}) }, true],
  [
    "a slow constraint",
    { constraint: constraint(() => new Promise((resolve) => setTimeout(resolve, 5))) },
    true,
  ],
];

describe.each(WRONG)("logits with %s", (_, wrong, what) => {
  it.each(WAYS)("end a text with the error that names them: %s", async (_, options, chooses) => {
    // The first token comes, the second cannot.
    const { text, scheduler } = scripted((position) => (position === 4 ? wrong : CLEAR), {
      vocab: VOCAB,
      chooses,
    });
    const ids: number[] = [];
    const generation = new Generation(generateTokens(text, piecesTokenizer(LETTERS), PROMPT, options, ids));
    const error = await generation.result().catch((error: unknown) => error);
    expect(error).toBeInstanceOf(LogitsError);
    expect((error as Error).message).toBe(
      `the model's logits at position 3 are ${what}. The file's weights are damaged, or activations exceed the range of the device: download the file again, or try another --device.`,
    );
    expect(error).toMatchObject({ code: "device", position: 3 });
    expect(ids).toEqual([7]);
    expect(scheduler.pages.used).toBe(0);
  });
});

it.each([true, false])("another text in the same steps goes on; the device chooses: %s", async (chooses) => {
  // Only of a text with these ids.
  const script = (position: number, ids: readonly number[]) =>
    position === 4 && ids[0] === 2 ? logits(Number.NaN) : 7;
  const { scheduler, steps } = scripted(script, { vocab: VOCAB, texts: 2, chooses });
  const both = [1, 2].map((first) =>
    new Generation(
      generateTokens(new Text(scheduler), piecesTokenizer(LETTERS), [first, 2, 3], { maxTokens: 6 }),
    ).result(),
  );
  const [right, wrong] = await Promise.allSettled(both);
  expect(wrong).toMatchObject({ status: "rejected", reason: expect.any(LogitsError) });
  expect(right).toMatchObject({ value: { ids: [7, 7, 7, 7, 7, 7] } });
  expect(steps.some(({ runs }) => runs.length === 2)).toBe(true);
});

const DEVICES: Record<string, () => Promise<Device>> = {
  reference: async () => referenceDevice(),
  cpu: async () => wasmDevice({ threads: 1 }),
};

// On a GPU: parallel-gpu.test.ts.
describe.each(Object.entries(DEVICES))("a model on %s", (_, open) => {
  it("whose logits are beyond float32 ends with the error", () => expectBeyondFloat32(open));
});

it.each([Number.NaN, Number.NEGATIVE_INFINITY])(
  "a weight with %s is refused when the model loads",
  async (odd) => {
    for (const [name, last] of [
      ["output_norm.weight", 0],
      ["blk.1.ffn_up.weight", 95],
    ] as const) {
      const loaded = changedModel(DEVICES.reference, name, (values) => {
        values[63] = odd;
      });
      await expect(loaded).rejects.toThrow(FormatError);
      await expect(loaded).rejects.toThrow(`tensor ${name}, rows 0 to ${last}: an infinity or a NaN`);
    }
  },
);
