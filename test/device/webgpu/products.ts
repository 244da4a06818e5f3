/** Runs planned dispatches on a Gpu with given contents of buffers: products against float64 sums, for tests and benches. */
import type { Weight } from "../../../src/device/contract.ts";
import { type Batch, batchOf } from "../../../src/device/webgpu/batch.ts";
import type { Dispatch, PlannedBuffer } from "../../../src/device/webgpu/dispatch.ts";
import { factorsAt, formBytes } from "../../../src/device/webgpu/forms.ts";
import type { Gpu, Traits } from "../../../src/device/webgpu/gpu.ts";
import type { KernelSource } from "../../../src/device/webgpu/kernel-source.ts";
import { KERNELS } from "../../../src/device/webgpu/kernels.ts";
import { inputForm, matmulDispatches } from "../../../src/device/webgpu/matmul.ts";
import type { GpuMatrix, MatmulOptions } from "../../../src/device/webgpu/matmul-options.ts";
import { matrixDispatches } from "../../../src/device/webgpu/matmul-prompt.ts";
import { packRows } from "../../../src/device/webgpu/pack.ts";
import {
  codesRowBytes,
  isFloat,
  partsOf,
  scalesRowBytes,
  weightForm,
} from "../../../src/device/webgpu/weights.ts";
import { dequantize } from "../../../src/format/blocks.ts";
import { f16ToF32, f32ToF16 } from "../../../src/format/float16.ts";
import { rowBytes, type TensorType } from "../../../src/format/tensor.ts";
import { gaussian, random, randomBytes } from "../random-tensor.ts";
import { packQ8, unpackQ8 } from "./q8.ts";

/** Planned buffers with contents. */
export class Buffers {
  readonly contents = new Map<number, Uint32Array<ArrayBuffer>>();
  #count = 0;

  /** A buffer that holds these words (padded to 16 bytes). */
  of(label: string, words: Uint32Array | Float32Array): PlannedBuffer {
    const bytes = Math.max(16, Math.ceil(words.byteLength / 16) * 16);
    const buffer = { id: this.#count++, label, bytes };
    const held = new Uint32Array(bytes / 4);
    held.set(new Uint32Array(words.buffer, words.byteOffset, words.length));
    this.contents.set(buffer.id, held);
    return buffer;
  }

  /** A buffer for results; it starts as ones, so that a word nobody wrote shows as NaN. */
  empty(label: string, words: number): PlannedBuffer {
    return this.of(label, new Uint32Array(words).fill(0xffffffff));
  }
}

const USAGE = { mapRead: 1, copySource: 4, copyTarget: 8, uniform: 64, storage: 128 };

/** The first tokens of a text as one step of a graph without caches: `lists` is all that `batch` holds. */
export function stepOf(ids: Uint32Array, rows = { few: 4, several: 4, batch: 32 }): Batch {
  const graph = { maxTokens: ids.length, maxOutputs: 1, texts: 1, blocks: 128, pools: [] };
  return batchOf(graph, { runs: [{ text: 0, position: 0, ids, outputs: 0 }] }, rows);
}

/** Runs the dispatches in order; gives the words of `out`. */
export async function runDispatches(
  { device, ...gpu }: { device: GPUDevice; pipeline: Gpu["pipeline"]; bindLayout: Gpu["bindLayout"] },
  dispatches: readonly Dispatch[],
  buffers: Buffers,
  out: PlannedBuffer,
  { shape, uniform }: Pick<Batch, "shape" | "uniform">,
): Promise<Uint32Array> {
  device.pushErrorScope("validation");
  const made = new Map<number, GPUBuffer>();
  const all: GPUBuffer[] = [];
  const create = (bytes: number, usage: number) => {
    const buffer = device.createBuffer({ size: bytes, usage });
    all.push(buffer);
    return buffer;
  };
  const place = ({ id, bytes }: PlannedBuffer) => {
    let buffer = made.get(id);
    if (!buffer) {
      buffer = create(bytes, USAGE.storage | USAGE.copySource | USAGE.copyTarget);
      device.queue.writeBuffer(buffer, 0, buffers.contents.get(id)!);
      made.set(id, buffer);
    }
    return buffer;
  };
  const step = create(uniform.byteLength, USAGE.uniform | USAGE.copyTarget);
  device.queue.writeBuffer(step, 0, uniform);
  const encoder = device.createCommandEncoder();
  for (const dispatch of dispatches) {
    const groups = dispatch.workgroups(shape);
    if (!groups) continue;
    const pipeline = await gpu.pipeline(dispatch.kernel);
    const params = create(dispatch.params.byteLength, USAGE.uniform | USAGE.copyTarget);
    device.queue.writeBuffer(params, 0, dispatch.params);
    const { bindings } = KERNELS[dispatch.kernel.kernel] as KernelSource;
    const entries = bindings.map(([binding, , variable]) => ({
      binding,
      resource: { buffer: { params, step }[variable] ?? place(dispatch.buffers[variable]) },
    }));
    const layout = gpu.bindLayout(dispatch.kernel.kernel);
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout, entries }));
    pass.dispatchWorkgroups(...groups);
    pass.end();
  }
  const back = create(out.bytes, USAGE.mapRead | USAGE.copyTarget);
  encoder.copyBufferToBuffer(place(out), 0, back, 0, out.bytes);
  device.queue.submit([encoder.finish()]);
  const failed = await device.popErrorScope();
  if (failed) throw new Error(failed.message);
  await back.mapAsync(1);
  const words = new Uint32Array(back.getMappedRange().slice(0));
  for (const buffer of all) buffer.destroy();
  return words;
}

export interface Shape {
  type: TensorType;
  /** Rows of each weight of the matrix. */
  rows: number[];
  cols: number;
  tokens: number;
  bias?: boolean;
  /** Most tokens that the vector kernels serve; default: the device's. */
  few?: number;
  /** Most of several; default: few. */
  several?: number;
  /** Rows that a part can hold; default: all. */
  partRows?: number;
  /** Workgroups of matmulMatrix that run at once; default: a large GPU's. */
  slots?: number;
}

export function numbers(count: number, seed: number): Float32Array {
  const next = random(seed);
  return Float32Array.from({ length: count }, () => gaussian(next));
}

/** A matrix of random weights in buffers, and the values that its rows stand for: [rows][cols]. */
export function matrixOf(
  shape: Shape,
  buffers: Buffers,
): { matrix: GpuMatrix; values: Float32Array; bias: Float32Array } {
  const { type, cols } = shape;
  const form = weightForm(type);
  const weights = shape.rows.map(
    (rows, id): Weight => ({ id, name: `w${id}`, role: "matrix", type, rows, cols }),
  );
  const files = weights.map(({ rows }, i) => randomBytes(type, rows, cols, 11 + i));
  const values = new Float32Array(shape.rows.reduce((a, b) => a + b) * cols);
  let at = 0;
  weights.forEach(({ rows }, i) => {
    dequantize(type, files[i], values.subarray(at, at + rows * cols));
    at += rows * cols;
  });
  const most = (shape.partRows ?? 1 << 20) * codesRowBytes(form, cols);
  const parts = partsOf(weights, most).map((part) => {
    const codes = new Uint32Array(part.codesBytes / 4);
    const scales = new Uint32Array(part.scalesBytes / 4);
    for (const source of part.sources) {
      const stride = rowBytes(type, cols);
      const file = files[source.weight].subarray(source.from * stride, (source.from + source.rows) * stride);
      const codesAt = (source.at * codesRowBytes(form, cols)) / 4;
      const scalesAt = (source.at * scalesRowBytes(form, cols)) / 4;
      packRows(type, file, source.rows, cols, codes.subarray(codesAt), scales.subarray(scalesAt));
    }
    return {
      ...part,
      codes: buffers.of("codes", codes),
      scales: isFloat(form) ? null : buffers.of("scales", scales),
    };
  });
  const bias = numbers(values.length / cols, 3);
  const matrix = {
    form,
    cols,
    rows: values.length / cols,
    parts,
    bias: shape.bias ? buffers.of("bias", bias) : null,
  };
  return { matrix, values, bias: shape.bias ? bias : bias.fill(0) };
}

/** Runs the product; relative root mean square error against float64 sums of what the kernel was given. */
export async function errorOf(gpu: Gpu, traits: Traits, shape: Shape): Promise<number> {
  const { cols, tokens } = shape;
  const buffers = new Buffers();
  const { matrix, values, bias } = matrixOf(shape, buffers);
  const x = numbers(tokens * cols, 5);
  const { few = traits.few } = shape;
  const { several = few } = shape;
  const step = stepOf(new Uint32Array(tokens), { few, several, batch: shape.few ?? traits.batch });
  const form = inputForm(traits, matrix, step.mode);
  const codes = form === "q8" ? packQ8(x, cols) : null;
  const halves = form === "f16" ? packF16(x, cols) : null;
  const seen = codes ? unpackQ8(codes, cols) : (halves?.seen ?? x);
  const rows = matrix.rows;
  const wanted = new Float32Array(tokens * rows);
  for (let t = 0; t < tokens; t++)
    for (let r = 0; r < rows; r++) {
      let sum = 0;
      for (let c = 0; c < cols; c++) sum += values[r * cols + c] * seen[t * cols + c];
      wanted[t * rows + r] = sum + bias[r];
    }
  const out = buffers.empty("out", wanted.length);
  const options: MatmulOptions = {
    traits,
    matrix,
    x: { form, buffer: buffers.of("x", codes ?? halves?.words ?? x) },
    rows: "tokens",
    mode: step.mode,
    maxRows: tokens,
    out,
    spare: buffers.empty("spare", 4),
    scratch: (label, bytes) => buffers.empty(label, bytes / 4),
  };
  const dispatches = shape.slots ? matrixDispatches(options, shape.slots) : matmulDispatches(options);
  const result = await runDispatches(methodsOf(gpu), dispatches, buffers, out, step);
  const found = new Float32Array(result.buffer);
  let difference = 0;
  let size = 0;
  wanted.forEach((value, i) => {
    difference += (value - found[i]) ** 2;
    size += value ** 2;
  });
  return Math.sqrt(difference / size);
}

/** The f16 form, some rows of the second half under factors; and what its rows stand for. */
function packF16(x: Float32Array, cols: number): { words: Uint32Array; seen: Float32Array } {
  const rows = x.length / cols;
  const words = new Uint32Array(formBytes("f16", rows, cols) / 4);
  const factors = new Float32Array(words.buffer);
  const halves = new Uint16Array(words.buffer);
  const seen = Float32Array.from(x, (value, i) => {
    const row = Math.floor(i / cols);
    const factor = 2 * row > rows && row % 5 === 3 ? 2 ** ((row % 7) - 3) : 1;
    factors[factorsAt(rows, cols) + 4 * row] = factor;
    halves[i] = f32ToF16(value);
    return f16ToF32(halves[i]) * factor;
  });
  return { words, seen };
}

export const methodsOf = (gpu: Gpu) => ({
  device: gpu.device,
  pipeline: gpu.pipeline.bind(gpu),
  bindLayout: gpu.bindLayout.bind(gpu),
});
