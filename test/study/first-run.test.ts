/** bench/first-run.js, what a stranger runs on a Mac: parts that fail are kept, and findings follow from rows as they are printed. */
import { expect, it } from "vitest";
import { ATTEND, attendTime, CHIPS, chipOf, productTime, table, verdict } from "../../bench/apple.js";
import { firstRun, partsOf } from "../../bench/first-run.js";

const quiet = () => {};
const doctor = JSON.stringify({
  adapters: [{ name: "Apple M1 Max", software: false }],
  gpuReadBytesPerSecond: 370e9,
});
const attend = (us: number) =>
  [
    '{"op":"readBandwidth","gbps":370}',
    `{"op":"attendDecode","shape":"64/8x128","tokens":131072,"queries":1,"kv":"int4","us":${us},"error":1e-6}`,
    '{"op":"attendDecode","shape":"64/8x128","tokens":1024,"queries":1,"kv":"int4","us":9,"error":1e-6}',
    `{"op":"attendPrompt","shape":"64/8x128","tokens":32768,"queries":512,"kv":"int4","us":${100 * us},"error":1e-6}`,
  ].join("\n");
const profile = (step: string, tokens: number, share: number) =>
  JSON.stringify({
    ...{ kind: "profile", step, tokens, depth: 0, us: 900 },
    dispatches: [
      { label: "matmul", bytes: 2 ** 28, us: 500 * share },
      { label: "gate", bytes: 0, us: 5 },
      { label: "matmul", bytes: 2 ** 28, us: 842 * share },
    ],
  });
const model = [profile("decode", 1, 1), profile("prompt chunk of 512", 512, 100)].join("\n");

it("says what confirms and what refutes the predictions", async () => {
  const run = async (args: string[]) => {
    const text = args.join(" ");
    if (text.includes("doctor")) return doctor;
    if (text.includes("rolldown")) return "done\n";
    if (text.includes("conformance.js")) return "FAILED floats: rmsNorm: 3 > 1\nfloats: 1 of 2 cases pass\n";
    if (text.includes("dots") && !text.includes("attend")) throw new Error("no such kernels\nhere");
    return text.includes("attend") ? attend(text.includes("floats") ? 850 : 9000) : model;
  };
  const { parts, findings } = await firstRun({ run, tell: quiet });
  expect(Object.keys(parts)).toEqual(partsOf({ small: false }).map(({ name }) => name));
  expect(parts["model dots"].error).toMatch(/^no such kernels/);
  expect(parts["attend dots"].error).toBe(null);
  expect(findings).toEqual([
    "conformance: 1 cases are WRONG on Apple M1 Max; the first: FAILED floats: rmsNorm: 3 > 1",
    "memory is read at 370 GB/s",
    "attendDecodeFloat, 131072 tokens: 850 us, predicted 811, memory alone 419: 1.05 times, confirmed",
    "attendPrompt, 512 queries, 32768 tokens: 85000 us, predicted 91239, memory alone 105: 0.93 times, confirmed",
    "attendDecodeMatrix8, 131072 tokens: 9000 us, predicted 779, memory alone 419: 11.55 times, refuted",
    "attendPromptMatrix8, 512 queries, 32768 tokens: 900000 us, predicted 83077, memory alone 105: 10.83 times, refuted",
    "attendDecode, 131072 tokens: 9000 us, predicted 3414, memory alone 419: 2.64 times, refuted",
    "matmulUnpacked, all products of a token: 1342 us, predicted 1342, memory alone 1342: 1.00 times, confirmed",
    "matmulTile8, all products of 512 tokens: 134200 us, predicted 143011, memory alone 1342: 0.94 times, confirmed",
  ]);
});

it("goes on where everything fails, and knows no other GPU", async () => {
  const run = () => Promise.reject(new Error("no node"));
  const { findings } = await firstRun({ small: true, run, tell: quiet });
  expect(findings).toEqual([
    "conformance did not run: no node",
    "no prediction for this GPU: bench/apple.js has M1 Max, M2 Ultra, M4 Max",
  ]);
});

it("predicts no less than memory takes, for every kernel and chip", () => {
  for (const chip of Object.keys(CHIPS) as (keyof typeof CHIPS)[]) {
    for (const kernel of Object.keys(ATTEND) as (keyof typeof ATTEND)[]) {
      const found = attendTime(chip, kernel, { tokens: 131_072, kvHeads: 8 });
      expect(verdict(found.us, found).predictedUs).toBeGreaterThanOrEqual(found.floorUs);
      // At least the multiply-adds of 8 heads, 128 dims, keys and values.
      const { fma, matrix, slow } = ATTEND[kernel];
      expect(fma + matrix + slow).toBeGreaterThanOrEqual((8 * 128 * 2 * 32) / 32);
    }
    const product = productTime(chip, "matmulUnpacked", 1e9);
    expect(product.us).toBeLessThan(product.floorUs);
  }
  expect(chipOf("Apple M2 Ultra")).toBe("M2 Ultra");
  expect(chipOf("NVIDIA H200")).toBe(null);
  expect(table().split("\n")).toHaveLength(17);
});
