/**
 * Narrowing to float16 on the GPU: kernels do it through lib/narrow.wgsl alone, and the f16 form of activations holds any
 * finite row to float16's precision, infinities and NaN visible.
 */
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { copyDispatch, gateDispatch, normDispatch } from "../../../src/device/webgpu/elementwise.ts";
import { factorsAt, formBytes } from "../../../src/device/webgpu/forms.ts";
import { beyondFloat16, tooLarge } from "../../../src/device/webgpu/weight-bounds.ts";
import { type WeightForm, weightForm } from "../../../src/device/webgpu/weights.ts";
import { UnsupportedError } from "../../../src/format/errors.ts";
import { f16ToF32, f32ToBf16, f32ToF16 } from "../../../src/format/float16.ts";
import type { TensorType } from "../../../src/format/tensor.ts";
import { describeGpu, softwareDevice } from "./gpu.ts";
import { Buffers, methodsOf, numbers, runDispatches, stepOf } from "./products.ts";

/** Makers of float16 that are no conversions of float32: literals, and what is float16 already. */
const NO_CONVERSIONS = [
  "const CENTER: f16 = f16(select(1152.0, 1024.0, UNSIGNED) + select(BIAS, 0.0, HAS_OFFSET));",
  "const MOST_CODE: f16 = f16((1u << VALUE_BITS) - 1u);",
  // Integers of 8 bits.
  "vec2<f16>(f16(extractBits(i32(a), 8u, 8u)), f16(extractBits(i32(b), 8u, 8u)))",
  "vec2<f16>(f16(i32(a) >> 24u), f16(i32(b) >> 24u))",
  "vec2<f16>(1024.0h + most)",
  "vec2<f16>(1024.0h + 8.0h * most)",
  // A power of two from 1 to 64.
  "vec2<f16>(f16(inverseFactor(share)))",
  "vec2<f16>(CENTER)",
  "vec2<f16>(SUPER_CENTER)",
  "vec2<f16>(960.0h - CENTER)",
  "vec4<f16>(select(pair.x, pair.y, (group & 1u) == 1u))",
  "vec4<f16>(pair, select(pair, bitcast<vec2<f16>>(words.y), SCALES == HALF_PAIRS))",
  "bitcast<u32>(vec2<f16>(a.x, b.x)), bitcast<u32>(vec2<f16>(a.y, b.y))",
];

it("no kernel narrows but through lib/narrow.wgsl", () => {
  const root = fileURLToPath(new URL("../../../src/device/webgpu/kernels/", import.meta.url));
  const files = readdirSync(root, { recursive: true }) as string[];
  for (const name of files.filter((file) => file.endsWith(".wgsl") && !file.endsWith("narrow.wgsl"))) {
    let text = readFileSync(`${root}${name}`, "utf8").replace(/\/\/.*$/gm, "");
    for (const known of NO_CONVERSIONS) text = text.replaceAll(known, "");
    text = text.replace(/(vec[234]<f16>|f16)\(-?[\d.]+h\)/g, "");
    expect(text.match(/.*(\bpack2x16float|vec[234]<f16>\(|\bf16\().*/g), name).toBeNull();
  }
});

const COLS = 96;
const ROWS: Readonly<Record<string, (x: number, i: number) => number>> = {
  ordinary: (x) => x,
  "of 1e5": (x) => 1e5 * x,
  "of 1e30": (x) => 1e30 * x,
  "of 1e-6": (x) => 1e-6 * x,
  "of 1e-30": (x) => 1e-30 * x,
  "one of 1e6": (x, i) => (i === 7 ? 1e6 : x),
  zeros: () => 0,
  "at the bound": (_, i) => (i % 2 ? 65_504 : -65_504),
  "just beyond": (_, i) => (i % 2 ? 65_520 : -1),
};
const NAMES = Object.keys(ROWS);
const ROW_COUNT = NAMES.length;

/** Rows of the f16 form as numbers. */
function unpackF16(words: Uint32Array): Float64Array[] {
  const halves = new Uint16Array(words.buffer);
  const floats = new Float32Array(words.buffer);
  return NAMES.map((_, row) => {
    const factor = floats[factorsAt(ROW_COUNT, COLS) + 4 * row];
    return Float64Array.from({ length: COLS }, (_, i) => f16ToF32(halves[row * COLS + i]) * factor);
  });
}

function expectClose(found: readonly Float64Array[], wanted: (row: number, i: number) => number): void {
  found.forEach((values, row) => {
    const numbersOf = Array.from(values, (_, i) => wanted(row, i));
    const largest = Math.max(...numbersOf.map(Math.abs));
    values.forEach((value, i) => {
      // Half a step of float16, and of its subnormal numbers for a largest one of 2^-11 or more; float32 before that.
      const allowed = Math.abs(numbersOf[i]) * 2 ** -11 + largest * (2 ** -14 + 1e-6);
      expect(Math.abs(value - numbersOf[i]), `${NAMES[row]}, ${i}`).toBeLessThanOrEqual(allowed);
    });
  });
}

describeGpu("the f16 form of activations", () => {
  const x = numbers(ROW_COUNT * COLS, 1);
  const shaped = Float32Array.from(x, (v, i) => ROWS[NAMES[Math.floor(i / COLS)]](v, i % COLS));
  const setUp = () => {
    const buffers = new Buffers();
    const out = buffers.empty("out", formBytes("f16", ROW_COUNT, COLS) / 4);
    const target = { rows: "tokens", cols: COLS, maxRows: ROW_COUNT, out } as const;
    return { buffers, out, target };
  };
  const step = stepOf(new Uint32Array(ROW_COUNT));

  it("copies", async () => {
    const gpu = await softwareDevice();
    const { buffers, out, target } = setUp();
    const view = { buffer: buffers.of("x", shaped), offset: 0, stride: COLS };
    const words = await runDispatches(
      methodsOf(gpu),
      [copyDispatch({ label: "copy", ...target, x: view, form: "f16" })],
      buffers,
      out,
      step,
    );
    expectClose(unpackF16(words), (row, i) => shaped[row * COLS + i]);
  });

  it("hides neither infinities nor NaN", async () => {
    const gpu = await softwareDevice();
    const { buffers, out, target } = setUp();
    const odd = shaped.slice();
    odd[0] = Number.POSITIVE_INFINITY;
    odd[COLS] = Number.NaN;
    const view = { buffer: buffers.of("x", odd), offset: 0, stride: COLS };
    const words = await runDispatches(
      methodsOf(gpu),
      [copyDispatch({ label: "copy", ...target, x: view, form: "f16" })],
      buffers,
      out,
      step,
    );
    const found = unpackF16(words);
    // SwiftShader makes a NaN of an infinity.
    expect([found[0][0], found[1][0]].map(Number.isFinite)).toEqual([false, false]);
  });

  it("gates", async () => {
    const gpu = await softwareDevice();
    const { buffers, out, target } = setUp();
    const gates = numbers(ROW_COUNT * COLS, 2);
    const view = (label: string, values: Float32Array) => ({
      buffer: buffers.of(label, values),
      offset: 0,
      stride: COLS,
    });
    const dispatch = gateDispatch({
      ...target,
      gate: view("gate", gates),
      up: view("up", shaped),
      ...{ activation: "silu", limit: 0, each: 1, form: "f16" },
    });
    const words = await runDispatches(methodsOf(gpu), [dispatch], buffers, out, step);
    expectClose(unpackF16(words), (row, i) => {
      const at = row * COLS + i;
      return (gates[at] / (1 + Math.exp(-gates[at]))) * shaped[at];
    });
  });

  it.each(Object.keys(ROWS))("norms, with a weight %s", async (name) => {
    const gpu = await softwareDevice();
    const { buffers, out, target } = setUp();
    const weight = numbers(COLS, 3).map((v, i) => ROWS[name](v, i));
    const options = {
      ...target,
      x: buffers.of("x", x),
      groups: 1,
      norm: { weight: buffers.of("weight", weight), epsilon: 1e-6 },
      form: "f16",
      ...{ plain: null, added: null, combine: null, addedNorm: null, factor: 1, sum: null },
    } as const;
    const [spare, unwritten] = [buffers.empty("spare", 4), buffers.empty("not written", 4)];
    const dispatch = normDispatch(gpu.traits, options, spare, unwritten);
    const words = await runDispatches(methodsOf(gpu), [dispatch], buffers, out, step);
    expectClose(unpackF16(words), (row, i) => {
      const values = x.subarray(row * COLS, (row + 1) * COLS);
      const mean = values.reduce((sum, v) => sum + v * v, 0) / COLS;
      return (values[i] / Math.sqrt(mean + 1e-6)) * weight[i];
    });
  });
});

describe("weights that float16 does not hold", () => {
  const word = (low: number, high: number) => Uint32Array.of((low & 0xffff) | (high << 16));
  const none = new Uint32Array(0);
  const check = (type: TensorType, codes: Uint32Array, scales: Uint32Array) => () => {
    const beyond = beyondFloat16(weightForm(type) as WeightForm, codes, scales, scales.length);
    if (beyond !== null) throw tooLarge("blk.0.ffn_up.weight", beyond);
  };
  const half = f32ToF16;

  it.each([
    ["bf16", word(f32ToBf16(1), f32ToBf16(-7e4)), none],
    ["q8_0", none, word(half(0.01), half(600))],
    ["q4_0", none, word(half(9000), 0)],
    ["q4_1", none, word(half(0.01), half(-65_504)).map((w) => w | half(100))],
    // d and dMin are 64 times as large as in the file; group 7's scale and minimum.
    ["q4_k", none, Uint32Array.of(half(64 * 60) | (half(-64 * 200) << 16), 0, 0, 0, 0x3f003f00)],
    ["q5_k", none, Uint32Array.of(half(Number.POSITIVE_INFINITY), 0, 0, 0, 0)],
    ["q6_k", none, Uint32Array.of(half(640) * 0x10001, 0x80808080, 0, 0x80808080, 0x80808080)],
    ["mxfp4", none, word(0, f32ToBf16(2 ** 20))],
    ["iq2_s", none, new Uint32Array(Float32Array.of(1e-3, 0, 0, -50, 0, 0).buffer)],
    ["q2_0", none, word(half(0.01), half(2e4))],
    ["nvfp4", none, new Uint32Array(Float32Array.of(23, 0).buffer)],
  ] as const)("%s: refused by name", (type, codes, scales) => {
    expect(check(type, codes, scales)).toThrow(UnsupportedError);
    expect(check(type, codes, scales)).toThrow(
      /blk.0.ffn_up.weight with numbers of up to [\dI].*--device cpu/,
    );
  });

  it.each([
    ["bf16", word(f32ToBf16(-6e4), f32ToBf16(Number.POSITIVE_INFINITY)), none],
    ["q8_0", none, word(half(100), half(-100))],
    ["q4_1", none, word(half(100), half(-6e4))],
    ["q4_k", none, Uint32Array.of(half(64 * 60) | (half(-64 * 200) << 16), 0, 0, 0, 0x3e003200)],
    ["q6_k", none, Uint32Array.of(half(640) * 0x10001, 0x80808080, 0xc0c0c0c0, 0x80808080, 0x80808080)],
    ["mxfp4", none, word(f32ToBf16(2 ** 8), f32ToBf16(2 ** -120))],
    ["iq2_s", none, Uint32Array.of(...new Uint32Array(Float32Array.of(16).buffer), 0xffffffff, 0xffffffff)],
    ["q2_0", none, word(half(1e4), half(-1e4))],
    ["nvfp4", none, Uint32Array.of(...new Uint32Array(Float32Array.of(22).buffer), 0x7e7e7e7e)],
    ["f16", word(0x7c00, 0x7bff), none],
  ] as const)("%s: large ones that it holds pass", (type, codes, scales) => {
    expect(check(type, codes, scales)).not.toThrow();
  });
});
