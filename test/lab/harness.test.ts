/** What an experiment measures: a method in the lab is what the same codec is in the cache, and a fold changes nothing. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { loadCheckpoint } from "../../src/engine/load-checkpoint.ts";
import { openCheckpoint } from "../../src/format/open.ts";
import type { LabModel } from "../../src/lab/lab-model.ts";
import { packLosses, unpackLosses } from "../../src/lab/losses.ts";
import { Methods } from "../../src/lab/methods/methods.ts";
import { Reader, UNTOUCHED } from "../../src/lab/reader.ts";
import { normalSpec, type SpecDraft } from "../../src/lab/spec.ts";
import type { TextEntry } from "../../src/lab/types.ts";
import { distribution, divergence } from "../../src/study/verify/divergence.ts";
import { letters, openTiny, TINY } from "./tiny-lab.ts";

const FROM = 20;
const RUNG = 60;
const INT4 = { method: "affine", bits: 4, group: 32 };
const BOTH = { keys: INT4, values: INT4 };
const methods = new Methods();
const ids = letters(FROM + RUNG, 3);

let model: LabModel;
let text: TextEntry;
beforeAll(async () => {
  model = await openTiny();
  await model.calibrate("abcde".repeat(20), 64);
  text = model.text("letters", "search", ids, FROM);
});
afterAll(() => model.close());

async function klOf(draft: SpecDraft, draw = 0): Promise<Float32Array> {
  return (await model.measure(normalSpec(draft), text, RUNG, draw, methods)).kl;
}

const mean = (list: Float32Array) => list.reduce((sum, x) => sum + x, 0) / list.length;

it("int4 in the lab is int4 in the cache, position by position", async () => {
  const logits = async (kv: string) => {
    const checkpoint = await openCheckpoint(TINY);
    const { plan, allocation } = await loadCheckpoint(
      checkpoint,
      referenceDevice,
      { kv, context: 128, chunk: 32, outputs: 32, guess: 0 },
      async () => ({}),
    );
    const rows = [];
    for await (const row of new Reader(allocation, plan.graph).read(ids, FROM, UNTOUCHED)) rows.push(row);
    await allocation.close();
    await checkpoint.close();
    return rows.map((row, i) => distribution(row, i));
  };
  const [truth, int4] = [await logits("f16"), await logits("int4")];
  const wanted = truth.map((row, i) => divergence(row, int4[i]));
  const found = await klOf(BOTH);
  // The lab's cache holds what comes back as float16: 2^-11 of it.
  wanted.forEach((kl, i) => {
    expect(Math.abs(found[i] - kl)).toBeLessThan(0.02 * kl + 2e-5);
  });
  expect(mean(found)).toBeGreaterThan(1e-4);
});

it("f16 is no loss at all", async () => {
  expect(await klOf({})).toEqual(new Float32Array(RUNG));
});

describe("a fold of the keys", () => {
  it("by powers of two changes no bit of scale-free methods; FP8 it does", async () => {
    const plain = await klOf(BOTH);
    for (const keyScale of [1 / 16, 8]) expect(await klOf({ ...BOTH, keyScale })).toEqual(plain);
    const fixed = { keys: { method: "fixed", bits: 8 } };
    expect(mean(await klOf({ ...fixed, keyScale: 2 ** -9 }))).toBeGreaterThan(2 * mean(await klOf(fixed)));
  });
});

it("newest tokens stay exact until their page leaves them, sinks for good", async () => {
  const exact = new Float32Array(RUNG);
  // Positions 20 to 31 are in the first page, whose tokens are the newest 32; the second page's see it quantized.
  const recent = await klOf({ ...BOTH, recent: 32 });
  expect(recent.slice(0, 44)).toEqual(exact.slice(0, 44));
  expect(recent[44]).toBeGreaterThan(0);
  const paged = await klOf({ keys: { method: "kivi" }, values: { method: "kivi" } });
  expect(paged.slice(0, 12)).toEqual(exact.slice(0, 12));
  expect(paged[12]).toBeGreaterThan(0);
  // The first page whole: nothing that a token of it sees is quantized.
  expect((await klOf({ ...BOTH, sinks: 32 })).slice(0, 12)).toEqual(exact.slice(0, 12));
});

it("layers, temperature and draws are parts of what is measured", async () => {
  const [all, first, second] = [
    mean(await klOf(BOTH)),
    mean(await klOf({ ...BOTH, layers: [0, 1] })),
    mean(await klOf({ ...BOTH, layers: [1, 2] })),
  ];
  expect(Math.max(first, second)).toBeLessThan(all * 1.2);
  expect(Math.min(first, second)).toBeGreaterThan(0);
  expect(mean(await klOf({ ...BOTH, temperature: 4 }))).toBeGreaterThan(all);
  expect(await klOf(BOTH)).toEqual(await klOf(BOTH));
  expect(await klOf(BOTH, 1)).not.toEqual(await klOf(BOTH));
  // All of the mean taken off is none of it seen.
  const lessMean = { ...BOTH, keys: { ...INT4, mean: true } };
  expect(await klOf({ ...BOTH, keyMean: 0 })).toEqual(await klOf(lessMean));
  expect(await klOf({ ...BOTH, keyMean: 3 })).not.toEqual(await klOf(BOTH));
});

it("queries are read behind each page: how scores spread, the first token's share, what int4 adds, and a profile", async () => {
  const { facts, profile } = await model.calibrate("abcde".repeat(20), 64);
  for (const fact of ["logitSpread", "logitError"]) expect(facts[fact]).toBeGreaterThan(0);
  expect(facts.sinkMass).toBeGreaterThan(0);
  expect(facts.sinkMass).toBeLessThan(1);
  expect(Number(facts.logitError)).toBeLessThan(Number(facts.logitSpread));
  expect(profile!.heads).toHaveLength(2 * Number(facts.kvHeads));
  const flat = { heads: [{ gains: [1], means: null }] };
  expect(await klOf({ ...BOTH, keyProfile: flat })).not.toEqual(await klOf(BOTH));
  expect(mean(await klOf({ ...BOTH, keyProfile: flat }))).toBeGreaterThan(0);
});

it("losses survive packing", () => {
  const losses = { kl: Float32Array.of(0, 0.5, 1e-9), same: [true, false, true] };
  const packed = packLosses(losses);
  expect(unpackLosses(packed)).toEqual(losses);
  expect([packed.klMean, packed.sameTop]).toEqual([expect.closeTo(1 / 6, 6), 2 / 3]);
});
