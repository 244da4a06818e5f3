/** The kernels of one binary over a memory of their own, for tests that call them one by one. */

import { compileKernels } from "../../src/device/wasm/module.ts";
import {
  MATMUL_SCRATCH_BYTES,
  packedBytes,
  quantizedBytes,
  TYPE_IDS,
} from "../../src/device/wasm/packing.ts";
import { stageBytes, stagedRowBytes } from "../../src/device/wasm/staged.ts";
import { dequantize } from "../../src/format/blocks.ts";
import type { TensorType } from "../../src/format/tensor.ts";

type Kernel = (...args: number[]) => number;

export class KernelBench {
  private end = 65536;
  private constructor(
    readonly memory: WebAssembly.Memory,
    readonly call: Readonly<Record<string, Kernel>>,
    readonly relaxed: boolean,
  ) {}

  static async open(simd: "auto" | "plain", mebibytes = 64): Promise<KernelBench> {
    const { module, relaxed } = await compileKernels(simd);
    const memory = new WebAssembly.Memory({ initial: mebibytes * 16, maximum: 65536, shared: true });
    const instance = await WebAssembly.instantiate(module, { env: { memory } });
    return new KernelBench(memory, instance.exports as unknown as Record<string, Kernel>, relaxed);
  }

  /** Forgets all placed data. */
  clear(): void {
    this.end = 65536;
  }

  place(bytes: number): number {
    const at = this.end;
    this.end += Math.ceil(bytes / 64) * 64;
    if (this.end > this.memory.buffer.byteLength)
      throw new Error(`${this.end} bytes do not fit the test's memory`);
    return at;
  }

  floats(at: number, count: number): Float32Array {
    return new Float32Array(this.memory.buffer, at, count);
  }

  placeFloats(values: Float32Array): number {
    const at = this.place(values.byteLength);
    this.floats(at, values.length).set(values);
    return at;
  }

  /** Packs a matrix as loading does, in pieces of `piece` rows. */
  pack(type: TensorType, bytes: Uint8Array, rows: number, cols: number, piece = 8): number {
    const staged = stagedRowBytes(type, cols);
    // At an odd address: rows lie anywhere.
    const source = this.place(rows * staged + 1) + 1;
    stageBytes(type, bytes, new Uint8Array(this.memory.buffer, source, rows * staged));
    const packed = this.place(packedBytes(type, rows, cols));
    for (let first = 0; first < rows; first += piece) {
      const count = Math.min(piece, rows - first);
      this.call.repackRows(TYPE_IDS[type], source + first * staged, packed, rows, cols, first, count);
    }
    return packed;
  }

  /** out [cols] f32 = row `row` of a packed matrix times `scale`. */
  embed(
    out: number,
    w: number,
    type: TensorType,
    rows: number,
    cols: number,
    row: number,
    scale: number,
  ): void {
    this.call.embedRow(out, w, TYPE_IDS[type], rows, cols, row, scale);
  }

  quantize(x: number, cols: number, tokens: number): number {
    const q = this.place(tokens * quantizedBytes(cols));
    this.call.quantizeRows(x, q, cols, 0, tokens);
    return q;
  }

  /** The values that quantized activations stand for, [tokens, cols], in float64. */
  dequantizedRows(q: number, cols: number, tokens: number): Float64Array {
    const values = new Float64Array(tokens * cols);
    const view = new DataView(this.memory.buffer);
    for (let t = 0; t < tokens; t++) {
      const row = q + t * quantizedBytes(cols);
      const unit = view.getFloat32(row, true);
      for (let c = 0; c < cols; c++) {
        const block = row + 64 + (c >> 5) * 64;
        values[t * cols + c] = unit * view.getInt16(block, true) * view.getInt8(block + 32 + (c & 31));
      }
    }
    return values;
  }

  /** y [tokens, rows] by one call for each range of panels. */
  matmul(
    type: TensorType,
    w: number,
    x: number,
    q: number,
    shape: { rows: number; cols: number; tokens: number },
    bias: number,
    ranges: readonly (readonly [number, number])[],
  ): Float32Array {
    const { rows, cols, tokens } = shape;
    const y = this.place(tokens * rows * 4 + 64);
    const guard = this.floats(y, tokens * rows + 16).fill(1234.5);
    const scratch = this.place(MATMUL_SCRATCH_BYTES);
    const id = TYPE_IDS[type];
    for (const [first, last] of ranges)
      this.call.matmul(y, x, q, w, id, rows, cols, tokens, bias, first, last, scratch);
    if (guard.subarray(tokens * rows).some((v) => v !== 1234.5)) throw new Error("matmul wrote beyond y");
    return guard.slice(0, tokens * rows);
  }
}

export function dequantizeRows(type: TensorType, bytes: Uint8Array, count: number): Float32Array {
  const values = new Float32Array(count);
  dequantize(type, bytes, values);
  return values;
}
