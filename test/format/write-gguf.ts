/**
 * Writes GGUF files for tests: right ones, and wrong ones on purpose. Every field can be overridden, and nothing is
 * checked: the reader under test does that.
 */

/** Value types by the numbers that the format gives them. */
export const T = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
};

const NUMBER_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];

/** A key-value: [key, type, value]; an array's value is { type, items, count? }, items nested alike. */
export type KeyValue = [key: string, type: number, value: unknown];

interface WrittenArray {
  type: number;
  items: readonly unknown[];
  /** What the file says, when that is to be a lie. */
  count?: number | bigint;
}

export interface WrittenTensor {
  name: string;
  dims: readonly (number | bigint)[];
  /** ggml's number. */
  type: number;
  data?: Uint8Array;
  /** Of the data from the start of the data section; else one after another, aligned. */
  offset?: number | bigint;
}

export interface WrittenGguf {
  magic?: string;
  version?: number;
  keys?: readonly KeyValue[];
  tensors?: readonly WrittenTensor[];
  keyCount?: number | bigint;
  tensorCount?: number | bigint;
  /** Of the data; does not write general.alignment. */
  alignment?: number;
}

export function writeGguf(file: WrittenGguf): Uint8Array {
  const { magic = "GGUF", version = 3, keys = [], tensors = [], alignment = 32 } = file;
  const out = new Bytes();
  for (const char of magic) out.number(T.u8, char.charCodeAt(0));
  out.number(T.u32, version);
  out.number(T.u64, file.tensorCount ?? tensors.length);
  out.number(T.u64, file.keyCount ?? keys.length);
  for (const [key, type, value] of keys) {
    out.string(key);
    out.number(T.u32, type);
    out.value(type, value);
  }
  let next = 0;
  const placed: [number, Uint8Array][] = [];
  for (const { name, dims, type, data = new Uint8Array(0), offset } of tensors) {
    out.string(name);
    out.number(T.u32, dims.length);
    for (const dim of dims) out.number(T.u64, dim);
    out.number(T.u32, type);
    out.number(T.u64, offset ?? next);
    placed.push([next, data]);
    next = Math.ceil((next + data.length) / alignment) * alignment;
  }
  if (placed.length > 0) out.pad(alignment);
  const start = out.length;
  for (const [at, data] of placed) {
    out.fill(start + at - out.length);
    out.bytes(data);
  }
  return out.all();
}

class Bytes {
  #bytes = new Uint8Array(1024);
  #view = new DataView(this.#bytes.buffer);
  length = 0;

  /** Room for `bytes` more; returns where they start. */
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

  bytes(bytes: Uint8Array): void {
    const at = this.#grow(bytes.length);
    this.#bytes.set(bytes, at);
  }

  fill(bytes: number): void {
    this.#grow(bytes);
  }

  pad(alignment: number): void {
    this.fill((alignment - (this.length % alignment)) % alignment);
  }

  string(text: string | Uint8Array): void {
    const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
    this.number(T.u64, bytes.length);
    this.bytes(bytes);
  }

  value(type: number, value: unknown): void {
    if (type === T.string) this.string(value as string);
    else if (type === T.array) {
      const { type: itemType, items, count = items.length } = value as WrittenArray;
      this.number(T.u32, itemType);
      this.number(T.u64, count);
      for (const item of items) this.value(itemType, item);
    } else this.number(type, value as number);
  }

  number(type: number, value: number | bigint): void {
    const at = this.#grow(NUMBER_BYTES[type]);
    const view = this.#view;
    if (type === T.u64 || type === T.i64) view.setBigUint64(at, BigInt.asUintN(64, BigInt(value)), true);
    else if (type === T.f64) view.setFloat64(at, Number(value), true);
    else if (type === T.f32) view.setFloat32(at, Number(value), true);
    else if (NUMBER_BYTES[type] === 4) view.setUint32(at, Number(value), true);
    else if (NUMBER_BYTES[type] === 2) view.setUint16(at, Number(value), true);
    else view.setUint8(at, Number(value));
  }

  all(): Uint8Array {
    return this.#bytes.slice(0, this.length);
  }
}
