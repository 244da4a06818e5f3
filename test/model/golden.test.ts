/** The reference device with an f32 cache, and the CPU over f16, against transformers, for every family, in chunks. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Device } from "../../src/device/contract.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { argmax } from "../../src/engine/sample.ts";
import { type Model, openModel } from "../../src/model/model.ts";
import { shareThreads } from "../device/shared-threads.ts";
import {
  arraysOf,
  type Expected,
  expected,
  FAMILIES,
  goldenModel,
  LATER,
  oldConfig,
  relativeError,
  rmsError,
} from "./golden.ts";
import { OneText } from "./one-text.ts";

shareThreads();

const CONTEXT = 160;

interface Over {
  device: () => Device | Promise<Device>;
  codec: string;
  /** Of logits and hidden states. */
  tolerance: number;
  error: (found: Float32Array, wanted: Float32Array) => number;
}

/** float32 sums in another order than torch's; measured 1e-5 at most. The issue asks for 2e-3. */
const REFERENCE: Over = { device: referenceDevice, codec: "f32", tolerance: 2e-4, error: relativeError };
/** Keys and values in float16. */
const CPU: Over = {
  device: () => wasmDevice({ threads: 1 }),
  codec: "f16",
  tolerance: 4e-3,
  error: rmsError,
};

/**
 * How much more may differ: Gemma 4 does not scale scores, so with random weights each query picks one key, and what one
 * layer is off by doubles in the next. 1.5e-3 is float32's own noise in these (measured on the reference, at one token of
 * 160; the median token is off by 3e-5).
 */
const more = (family: string, over: Over): Over => {
  if (family.startsWith("gemma4"))
    return { ...over, tolerance: (over.codec === "f32" ? 10 : 8) * over.tolerance };
  return RECURRENT.includes(family) ? { ...over, tolerance: 2 * over.tolerance } : over;
};

/**
 * Measured 2.0e-4, a layer 3.5e-5. So much are the golden numbers themselves off in float32 (the first layer computed in
 * float64 differs from them by 3.4e-5): what a state says is normed, and is as small as 3e-4.
 */
const RECURRENT = ["qwen3_5", "qwen3_next"];

const open = async (model: Model, chunk: number, { device, codec }: Over, context = CONTEXT) =>
  OneText.open(model, await device(), { chunk, context, codec });

let model: Model;
let golden: Expected;
const withModel = (family: string) => {
  beforeAll(async () => {
    model = await goldenModel(family);
    golden = await expected(family);
  });
  afterAll(() => model.checkpoint.close());
};

async function checkValues(chunk: number, over: Over): Promise<void> {
  const text = await open(model, chunk, over);
  const found = await text.values(golden.ids, chunk);
  await text.allocation.close();
  for (const [name, array] of golden.arrays)
    expect(over.error(found.get(name)!, array), name).toBeLessThan(over.tolerance);
}

/** Over f16 two ids that are equally likely may change places: after the same text each must be as good as the best. */
async function checkChoices(over: Over): Promise<void> {
  const text = await open(model, 64, over);
  const logits = (await text.values(golden.greedy, 64)).get("logits")!;
  await text.allocation.close();
  const { cols } = text.graph.logits;
  for (let at = 47; at < golden.greedy.length - 1; at++) {
    const row = logits.subarray(at * cols, (at + 1) * cols);
    const deviation = Math.sqrt(row.reduce((sum, x) => sum + x * x, 0) / cols);
    const behind = (row[argmax(row)] - row[golden.greedy[at + 1]]) / deviation;
    expect(behind, `id ${at + 1}`).toBeLessThan(5 * over.tolerance);
  }
}

async function checkGreedy(over: Over): Promise<void> {
  const text = await open(model, 48, over);
  const ids = await text.greedy(golden.ids.slice(0, 48), golden.greedy.length);
  await text.allocation.close();
  expect(ids).toEqual(golden.greedy);
}

describe.each(FAMILIES)("%s against transformers", (family) => {
  withModel(family);
  it.each([160, 64, 7, 1])("logits and hidden states, in chunks of %i", (chunk) =>
    checkValues(chunk, REFERENCE),
  );
  it("the same greedy continuation from 48 tokens", () => checkGreedy(REFERENCE));
});

describe.each([...LATER, ...RECURRENT])("%s against transformers", (family) => {
  withModel(family);
  it.each([64, 7])("logits and hidden states, in chunks of %i", (chunk) =>
    checkValues(chunk, more(family, REFERENCE)),
  );
  it.each([64, 7, 1])("on the CPU over f16, in chunks of %i", (chunk) =>
    checkValues(chunk, more(family, CPU)),
  );
  it("the same greedy continuation from 48 tokens", () => checkGreedy(REFERENCE));
  it("on the CPU over f16, the same choices in that text", () => checkChoices(more(family, CPU)));

  it("reads the config of older files the same", async () => {
    const metadata = await oldConfig(family);
    if (metadata) expect((await openModel({ ...model.checkpoint, metadata })).config).toEqual(model.config);
  });
});

it("phi3-longrope takes the short factors where texts are short", async () => {
  const short = await goldenModel("phi3-longrope");
  const { ids } = await expected("phi3-longrope");
  const wanted = (await arraysOf("phi3-longrope", "extra")).arrays.get("logits.short")!;
  const text = await open(short, 32, REFERENCE, 32);
  const found = await text.values(ids.slice(0, 32), 32);
  expect(relativeError(found.get("logits")!, wanted)).toBeLessThan(REFERENCE.tolerance);
  await short.checkpoint.close();
});
