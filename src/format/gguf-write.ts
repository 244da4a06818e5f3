/**
 * Makes the header of a GGUF file, version 3, as bytes: key-values and the tensor list with the offset of each tensor's
 * data, in the order that gguf-header.ts reads. It writes no file: the caller appends each tensor's bytes, padded with
 * zeros up to the next offset.
 */
import { typeNumber } from "./gguf-types.ts";
import { storedRowBytes, type TensorType } from "./tensor.ts";

/** A value with its type; lists are of one type. */
export type GgufValue =
  | { readonly u32: number }
  | { readonly i32: number }
  | { readonly f32: number }
  | { readonly bool: boolean }
  | { readonly string: string }
  | { readonly u32s: readonly number[] }
  | { readonly i32s: readonly number[] }
  | { readonly f32s: ArrayLike<number> }
  | { readonly bools: readonly boolean[] }
  | { readonly strings: readonly string[] };

/** A key with the bytes of its type and value. */
export interface WrittenKey {
  readonly key: string;
  readonly bytes: Uint8Array;
}

/** A tensor of whole rows; fastest axis first. */
export interface PlannedTensor {
  readonly name: string;
  readonly type: TensorType;
  readonly dims: readonly number[];
}

export interface PlannedFile {
  /** The header up to the first tensor's data. */
  readonly header: Uint8Array;
  /** The offset of each tensor, from the start of the file. */
  readonly places: readonly { readonly offset: number; readonly bytes: number }[];
  /** The size of the whole file. */
  readonly bytes: number;
}

const U32 = 4;
const I32 = 5;
const F32 = 6;
const BOOL = 7;
const STRING = 8;
const ARRAY = 9;
const utf8 = new TextEncoder();

/** Type and value of a key. */
export function valueBytes(value: GgufValue): Uint8Array {
  const out = new Bytes();
  if ("u32" in value) out.u32(U32).u32(value.u32);
  else if ("i32" in value) out.u32(I32).u32(value.i32);
  else if ("f32" in value) out.u32(F32).f32(value.f32);
  else if ("bool" in value) out.u32(BOOL).byte(value.bool ? 1 : 0);
  else if ("string" in value) out.u32(STRING).string(value.string);
  else if ("u32s" in value) {
    out.array(U32, value.u32s.length);
    for (const item of value.u32s) out.u32(item);
  } else if ("i32s" in value) {
    out.array(I32, value.i32s.length);
    for (const item of value.i32s) out.u32(item);
  } else if ("f32s" in value) {
    out.array(F32, value.f32s.length);
    for (let i = 0; i < value.f32s.length; i++) out.f32(value.f32s[i]);
  } else if ("bools" in value) {
    out.array(BOOL, value.bools.length);
    for (const item of value.bools) out.byte(item ? 1 : 0);
  } else {
    out.array(STRING, value.strings.length);
    for (const item of value.strings) out.string(item);
  }
  return out.all();
}

/** The header and the offset of each tensor's data. `alignment` is the one that the keys give, 32 if they give none. */
export function planFile(
  keys: readonly WrittenKey[],
  tensors: readonly PlannedTensor[],
  alignment = 32,
): PlannedFile {
  const up = (bytes: number) => Math.ceil(bytes / alignment) * alignment;
  let next = 0;
  const ranges = tensors.map(({ type, dims }) => {
    const [cols, ...outer] = dims;
    const bytes = outer.reduce((rows, dim) => rows * dim, 1) * storedRowBytes(type, cols);
    const offset = next;
    next = up(next + bytes);
    return { offset, bytes };
  });
  const out = new Bytes();
  out.raw(utf8.encode("GGUF")).u32(3).u64(tensors.length).u64(keys.length);
  for (const { key, bytes } of keys) out.string(key).raw(bytes);
  tensors.forEach(({ name, type, dims }, i) => {
    out.string(name).u32(dims.length);
    for (const dim of dims) out.u64(dim);
    out.u32(typeNumber(type)!).u64(ranges[i].offset);
  });
  const start = up(out.length);
  const header = new Uint8Array(start);
  header.set(out.all());
  return {
    header,
    places: ranges.map(({ offset, bytes }) => ({ offset: start + offset, bytes })),
    bytes: start + next,
  };
}

/** A growing array of bytes. */
class Bytes {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  length = 0;

  #grow(bytes: number): number {
    const at = this.length;
    this.length += bytes;
    if (this.length > this.#bytes.length) {
      const larger = new Uint8Array(2 * this.length);
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }

  raw(bytes: Uint8Array): this {
    const at = this.#grow(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  byte(value: number): this {
    const at = this.#grow(1);
    this.#view.setUint8(at, value);
    return this;
  }

  /** A negative number as its two's complement. */
  u32(value: number): this {
    const at = this.#grow(4);
    this.#view.setUint32(at, value, true);
    return this;
  }

  f32(value: number): this {
    const at = this.#grow(4);
    this.#view.setFloat32(at, value, true);
    return this;
  }

  u64(value: number): this {
    const at = this.#grow(8);
    this.#view.setBigUint64(at, BigInt(value), true);
    return this;
  }

  string(text: string): this {
    const bytes = utf8.encode(text);
    return this.u64(bytes.length).raw(bytes);
  }

  array(type: number, count: number): this {
    return this.u32(ARRAY).u32(type).u64(count);
  }

  all(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }
}
