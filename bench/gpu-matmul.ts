/**
 * Matrix products on this machine's GPU: every tensor type is checked against float64 sums, then the engine's
 * dispatches are timed.
 *
 *     npx rolldown bench/gpu-matmul.ts --format esm --platform node --external webgpu -o dist/gpu-matmul.js
 *     node dist/gpu-matmul.js [--json FILE] [--toggles disable_robustness] [--only PATTERN] [--check: no times] [--forms]
 *
 * --forms: only times of K types, in today's GPU layout and the former one (codes of 8 bits, scales multiplied out), in
 * turn. Times are medians of passes of dependent dispatches, over copies of the weights that together do not fit the
 * caches.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { dawnGpu } from "../src/device/webgpu/dawn.ts";
import type { Dispatch, PlannedBuffer } from "../src/device/webgpu/dispatch.ts";
import { factorsAt, formBytes } from "../src/device/webgpu/forms.ts";
import { Gpu, type Traits, traitsOf } from "../src/device/webgpu/gpu.ts";
import type { KernelSource } from "../src/device/webgpu/kernel-source.ts";
import { KERNELS } from "../src/device/webgpu/kernels.ts";
import { inputForm, matmulDispatches } from "../src/device/webgpu/matmul.ts";
import type { GpuMatrix } from "../src/device/webgpu/matmul-options.ts";
import { type Encode, timePasses } from "../src/device/webgpu/timing.ts";
import {
  codesRowBytes,
  partsOf,
  scalesRowBytes,
  type WeightForm,
  weightForm,
} from "../src/device/webgpu/weights.ts";
import { f32ToF16 } from "../src/format/float16.ts";
import { BLOCKS, type TensorType } from "../src/format/tensor.ts";
import { random } from "../test/device/random-tensor.ts";
import { errorOf, stepOf } from "../test/device/webgpu/products.ts";

const { values: options } = parseArgs({
  options: {
    json: { type: "string" },
    toggles: { type: "string", default: "" },
    only: { type: "string", default: "" },
    check: { type: "boolean", default: false },
    forms: { type: "boolean", default: false },
  },
});
const TOGGLES = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia", "disable_workgroup_init"];
const api = await dawnGpu({}, [...TOGGLES, ...options.toggles.split(",").filter(Boolean)]);
const adapter = await api.requestAdapter({ powerPreference: "high-performance" });
if (!adapter) throw new Error("no adapter");
const traits = traitsOf(adapter);
const { maxStorageBufferBindingSize, maxBufferSize, maxComputeWorkgroupStorageSize } = adapter.limits;
const limits = { maxStorageBufferBindingSize, maxBufferSize, maxComputeWorkgroupStorageSize };
const gpu = await Gpu.open(adapter, traits, limits, api);
const { device } = gpu;
const facts = { adapter: gpu.name, date: new Date().toISOString().slice(0, 10), toggles: options.toggles };
const rows: object[] = [];

/** f16 scales and offsets of ordinary size in either half of a word; random codes. */
const next = random(1);
const scaleWords = Uint32Array.from(
  { length: 1 << 20 },
  () => f32ToF16(0.005 + 0.01 * next()) | (f32ToF16(-0.01 * next()) << 16),
);
const codeWords = Uint32Array.from({ length: 1 << 20 }, () => next() * 2 ** 32);

/** STORAGE | COPY_DST; the namespace object is not a global in Node. */
const USAGE = 128 | 8;

function filled(bytes: number, words: Uint32Array<ArrayBuffer>): GPUBuffer {
  const size = Math.ceil(bytes / 16) * 16;
  const buffer = device.createBuffer({ size, usage: USAGE });
  for (let at = 0; at < size; at += words.byteLength)
    device.queue.writeBuffer(buffer, at, words, 0, Math.min(words.length, (size - at) / 4));
  return buffer;
}

interface Product {
  type: TensorType;
  rows: number;
  cols: number;
  tokens: number;
  traits?: Traits;
  /** Maximum tokens for vector kernels; default: the device's. */
  few?: number;
  /** Instead of the type's. */
  form?: WeightForm;
}

/** Microseconds of one product. */
async function timeProduct(product: Product) {
  const { type, rows: count, cols, tokens, traits: as = traits, few = as.few } = product;
  const form = product.form ?? weightForm(type);
  const weight = { id: 0, name: "w", role: "matrix", type, rows: count, cols } as const;
  let ids = 0;
  const planned = (label: string, bytes: number): PlannedBuffer => ({ id: ids++, label, bytes });
  const most = Math.min(maxStorageBufferBindingSize, maxBufferSize);
  const parts = partsOf([weight], most).map((part) => ({
    ...part,
    codesBytes: part.rows * codesRowBytes(form, cols),
    scalesBytes: part.rows * scalesRowBytes(form, cols),
  }));
  const placed = parts.map((part) => ({
    ...part,
    codes: planned("codes", part.codesBytes),
    scales: part.scalesBytes > 0 ? planned("scales", part.scalesBytes) : null,
  }));
  const matrix: GpuMatrix = { form, cols, rows: count, parts: placed, bias: null };
  const { mode, shape, uniform } = stepOf(new Uint32Array(tokens), { few, several: few, batch: few });
  const input = inputForm(as, matrix, mode);
  const x = { form: input, buffer: planned("x", formBytes(input, tokens, cols)) };
  const out = planned("out", 4 * tokens * count);
  const dispatches = matmulDispatches({
    traits: as,
    matrix,
    x,
    rows: "tokens",
    mode,
    maxRows: tokens,
    out,
    spare: planned("spare", 16),
    scratch: planned,
  });
  const made: GPUBuffer[] = [];
  const shared = new Map<number, GPUBuffer>();
  const realize = (places: Map<number, GPUBuffer>, buffer: PlannedBuffer) => {
    let real = shared.get(buffer.id) ?? places.get(buffer.id);
    if (!real) {
      real = filled(buffer.bytes, buffer.label === "codes" && form.scales ? codeWords : scaleWords);
      made.push(real);
      (buffer === out || buffer === x.buffer ? shared : places).set(buffer.id, real);
    }
    return real;
  };
  if (input === "f16") {
    const ones = Float32Array.from({ length: 4 * tokens }, () => 1);
    device.queue.writeBuffer(realize(shared, x.buffer), 4 * factorsAt(tokens, cols), ones);
  }
  const bytes = parts.reduce((sum, part) => sum + part.codesBytes + part.scalesBytes, 0);
  const copies = mode === "prompt" ? 1 : Math.ceil(3e8 / bytes);
  const step = device.createBuffer({ size: uniform.byteLength, usage: 64 | 8 });
  device.queue.writeBuffer(step, 0, uniform);
  made.push(step);
  const group = (dispatch: Dispatch, places: Map<number, GPUBuffer>) => {
    const { kernel } = dispatch.kernel;
    const params = device.createBuffer({ size: dispatch.params.byteLength, usage: 64 | 8 });
    device.queue.writeBuffer(params, 0, dispatch.params);
    made.push(params);
    const entries = (KERNELS[kernel] as KernelSource).bindings.map(([binding, , variable]) => ({
      binding,
      resource: { buffer: { params, step }[variable] ?? realize(places, dispatch.buffers[variable]) },
    }));
    return device.createBindGroup({ layout: gpu.bindLayout(kernel), entries });
  };
  const pipelines = await Promise.all(dispatches.map(({ kernel }) => gpu.pipeline(kernel)));
  const sets = Array.from({ length: copies }, () => {
    const places = new Map<number, GPUBuffer>();
    return dispatches.map((dispatch) => group(dispatch, places));
  });
  const repeat = mode === "prompt" ? 4 : 12;
  const encode: Encode = (pass) => {
    for (let i = 0; i < repeat; i++)
      dispatches.forEach((dispatch, part) => {
        const groups = dispatch.workgroups(shape);
        if (groups === null) return;
        pass.setPipeline(pipelines[part]);
        pass.setBindGroup(0, sets[i % copies][part]);
        pass.dispatchWorkgroups(...groups);
      });
  };
  const [us] = await timePasses(gpu, [encode], encode, 9);
  for (const buffer of made) buffer.destroy();
  return {
    us: us / repeat,
    bytes,
    mode,
    kernel: dispatches.find((dispatch) => dispatch.workgroups(shape))!.kernel.kernel,
  };
}

const TYPES = Object.keys(BLOCKS) as TensorType[];
/** The GPU layout of K types until 2026-11-28. */
const before = (codes: WeightForm["codes"], scales: WeightForm["scales"]): WeightForm => ({
  ...{ codes, scales, bias: 0, table: null, lib: "plain" },
});
const FORMER = {
  q4_k: before("nibbles", "pair"),
  q5_k: before("bytes", "pair"),
  q6_k: before("bytes", "halves"),
} as const;

/** Medians of three rounds in turn: about a minute. */
async function timeForms(): Promise<void> {
  for (const [count, cols] of [
    [28672, 8192],
    [4096, 14336],
  ])
    for (const tokens of [1, 4, 16, 512]) {
      const forms: Pick<Product, "type" | "form">[] = [
        { type: "q4_0" },
        ...(["q4_k", "q5_k", "q6_k"] as const).flatMap((type) => [{ type, form: FORMER[type] }, { type }]),
      ];
      const all = forms.map((of) => ({
        ...of,
        ...{ rows: count, cols, tokens, times: [] as number[], bytes: 0 },
        name: of.type + (of.form ? " before" : ""),
      }));
      for (let round = 0; round < 3; round++)
        for (const product of all) {
          const { us, bytes } = await timeProduct(product);
          product.times.push(us);
          product.bytes = bytes;
        }
      for (const { name, times, bytes } of all) {
        const us = times.sort((a, b) => a - b)[1];
        const gbps = Math.round(bytes / us / 1e3);
        rows.push({
          op: "forms",
          shape: `${count}x${cols}`,
          tokens,
          form: name,
          us: +us.toFixed(2),
          gbps,
          ...facts,
        });
        console.log(`${count}x${cols} x ${tokens} ${name}: ${us.toFixed(1)} us, ${gbps} GB/s`);
      }
    }
}

let worst = { error: 0, name: "" };
for (const type of options.only ? [] : options.forms ? (["q4_k", "q5_k", "q6_k"] as const) : TYPES) {
  const unit = BLOCKS[type].elements === 1 ? 32 : BLOCKS[type].elements;
  for (const [counts, blocks, tokens, bias, few] of [
    [[35], 3, 1, false, 32],
    [[150, 41], 2, 3, true, 32],
    [[150, 41], 2, 29, true, 32],
    [[150, 41], 2, 3, true, 1],
    [[70], 2, 33, false, 32],
    [[300], 3, 200, true, 32],
    [[384], 2, 256, false, 32],
    // Columns in splits.
    [[384], 32, 256, false, 32],
    [[300, 41], 24, 150, false, 32],
  ] as const) {
    const shape = { type, rows: [...counts], cols: unit * blocks, tokens, few, bias, partRows: 128 };
    const error = await errorOf(gpu, traits, shape);
    const name = `${type} ${counts}x${unit * blocks}, ${tokens} tokens`;
    if (!(error <= worst.error)) worst = { error, name };
    if (!(error < 1.3e-3)) console.log(`WRONG ${name}: ${error}`);
  }
}
console.log(`${gpu.name}: worst error ${worst.error.toExponential(1)}, ${worst.name}`);
rows.push({ op: "matmul check", worst: worst.error, case: worst.name, ...facts });

const SHAPES = [
  [28672, 8192],
  [8192, 28672],
  [8192, 8192],
  [10240, 8192],
  [57344, 8192],
  [14336, 4096],
  [4096, 14336],
  [4096, 4096],
  [6144, 4096],
] as const;
const without: Traits = { ...traits, matrices: false };
const products: Product[] = [
  ...SHAPES.map(([count, cols]) => ({ type: "q4_0" as const, rows: count, cols, tokens: 1 })),
  ...TYPES.map((type) => ({ type, rows: 8192, cols: 8192, tokens: 1 })),
  // Few rows with either kernel: finds the best value of traits.few.
  ...[2, 4, 8, 16, 32, 48, 64].flatMap((tokens) =>
    [64, 1].map((few) => ({ type: "q4_0" as const, rows: 8192, cols: 8192, tokens, few })),
  ),
  ...SHAPES.slice(0, 2).flatMap(([count, cols]) =>
    [32, 128, 256, 512, 1024, 2048].map((tokens) => ({ type: "q4_0" as const, rows: count, cols, tokens })),
  ),
  ...SHAPES.slice(5).flatMap(([count, cols]) =>
    [128, 256, 512].map((tokens) => ({ type: "q4_0" as const, rows: count, cols, tokens })),
  ),
  ...TYPES.map((type) => ({ type, rows: 8192, cols: 8192, tokens: 512 })),
  ...(["q4_0", "f32"] as const).map((type) => ({
    type,
    rows: 4096,
    cols: 4096,
    tokens: 512,
    traits: without,
  })),
];
if (options.check) process.exit(0);
// The first measurements of a process were up to three times too long, even after 300 ms of other work.
for (let i = 0, before = 0; i < 20; i++) {
  const { us } = await timeProduct(products[0]);
  if (Math.abs(us - before) < 0.02 * us && i > 3) break;
  before = us;
}
if (options.forms) await timeForms();
for (const product of options.forms ? [] : products) {
  const { type, rows: count, cols, tokens } = product;
  const shape = `${count}x${cols}`;
  if (!new RegExp(options.only).test(`${type} ${shape} ${tokens}`)) continue;
  const { us, bytes, mode, kernel } = await timeProduct(product);
  const rate =
    tokens > 4
      ? { tflops: +((2 * count * cols * tokens) / us / 1e6).toFixed(1) }
      : { gbps: Math.round(bytes / us / 1e3) };
  rows.push({ op: kernel, shape, type, tokens, mode, us: +us.toFixed(2), ...rate, ...facts });
  console.log(`${kernel} ${type} ${shape} x ${tokens}: ${us.toFixed(1)} us, ${JSON.stringify(rate)}`);
}
if (options.json) writeFileSync(options.json, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
process.exit(0);
