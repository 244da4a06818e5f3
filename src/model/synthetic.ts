/**
 * A shape's checkpoint with random but valid weights, so that a measurement costs what a model of that shape costs.
 * Rows are copied out of a small pool of blocks. The pool's size is prime, so that rows start at different blocks and
 * gigabytes are produced at the speed of memory.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { f32ToF16 } from "../format/float16.ts";
import { BLOCKS, rowBytes, type Tensor, type TensorType } from "../format/tensor.ts";
import { type ShapeOptions, shapedCheckpoint } from "./shaped.ts";
import type { Shape } from "./shapes.ts";

/**
 * Byte offsets of a random block's f16 scales, and the standard deviation of its values at a scale of 1 (random codes
 * are uniform: b bits have deviation 2^b / sqrt(12)). q4_k: 6-bit scales times codes, minus a minimum that cancels
 * their mean; q5_k alike.
 */
const RANDOM_TYPES: Partial<Record<TensorType, readonly (readonly [offset: number, deviation: number])[]>> = {
  q4_0: [[0, 4.61]],
  q8_0: [[0, 73.9]],
  q4_k: [
    [0, 258],
    [2, 258 / 7.5],
  ],
  f16: [],
  f32: [],
  q5_k: [
    [0, 530],
    [2, 530 / 15.5],
  ],
  q5_0: [[0, 9.24]],
  // 8-bit scales times codes around 0.
  q6_k: [[208, 1366]],
  // Measured: odd scales times values of a grid.
  iq3_s: [[0, 140]],
  iq2_s: [[0, 56.5]],
  iq2_xxs: [[0, 53.7]],
};

/** Primes, by elements of a block: a pool is 1 to 2 MiB. */
const POOL_BLOCKS: Readonly<Record<number, number>> = { 1: 1_048_583, 32: 65_537, 256: 8209 };

/** Throws ArgumentError like `shapedCheckpoint`. */
export function syntheticCheckpoint(shape: string | Shape, options: ShapeOptions = {}): Promise<Checkpoint> {
  const pools = new Map<string, Uint8Array>();
  return shapedCheckpoint(shape, options, (type, cols, place) => {
    const key = `${type} ${cols}`;
    // Made when it is first read: who only plans reads no weights.
    const poolOf = () => {
      const pool = pools.get(key) ?? randomPool(type, cols);
      pools.set(key, pool);
      return pool;
    };
    // Each tensor begins at another place of the pool.
    return pooledRows(type, cols, poolOf, place * 7919);
  });
}

/** Blocks whose values have a deviation of about 1 / sqrt(cols), so that a matrix keeps the size of a normed input. */
function randomPool(type: TensorType, cols: number): Uint8Array {
  const { elements, bytes: blockBytes } = BLOCKS[type];
  const blocks = POOL_BLOCKS[elements];
  const words = new Uint32Array(Math.ceil((blocks * blockBytes) / 4));
  // xorshift32 (Marsaglia, 2003): fast, and random enough for codes.
  let state = 2_463_534_242 ^ cols;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  const pool = new Uint8Array(words.buffer, 0, blocks * blockBytes);
  const floats = new Float32Array(words.buffer);
  const deviation = 1 / Math.sqrt(cols);
  const half = (at: number, value: number) => {
    const bits = f32ToF16(value);
    pool[at] = bits & 255;
    pool[at + 1] = bits >> 8;
  };
  for (let block = 0; block < blocks; block++) {
    const at = block * blockBytes;
    // Uniform in -1..1 has deviation 1 / sqrt(3).
    if (type === "f32") floats[block] = (words[block] / 2 ** 31 - 1) * Math.sqrt(3) * deviation;
    if (type === "f16") half(at, ((pool[at] | (pool[at + 1] << 8)) / 32_768 - 1) * Math.sqrt(3) * deviation);
    for (const [offset, codes] of RANDOM_TYPES[type] ?? []) half(at + offset, deviation / codes);
  }
  return pool;
}

/** Row r is copied from the pool from block `start` + r * blocks on, and wraps around at its end. */
function pooledRows(
  type: TensorType,
  cols: number,
  poolOf: () => Uint8Array,
  start: number,
): Tensor["readRows"] {
  const { elements, bytes: blockBytes } = BLOCKS[type];
  return async (first, count, into) => {
    const pool = poolOf();
    const blocks = pool.length / blockBytes;
    const end = count * rowBytes(type, cols);
    let from = ((start + first * (cols / elements)) % blocks) * blockBytes;
    for (let at = 0; at < end; from = 0) {
      const bytes = Math.min(end - at, pool.length - from);
      into.set(pool.subarray(from, from + bytes), at);
      at += bytes;
    }
  };
}
