/**
 * The key-values of a GGUF header. Every count is checked against the bytes left in the file before anything is
 * allocated for it. Values: numbers, booleans, strings (utf8.ts), arrays of strings or booleans, and typed arrays for
 * arrays of numbers (64-bit integers as Float64Array).
 */
import type { ByteWindow } from "./byte-window.ts";
import { FormatError } from "./errors.ts";
import { describe } from "./json.ts";
import { decodeLenient } from "./utf8.ts";

export type Metadata = Record<string, unknown>;

const KEY_BYTES = 65535;
const STRING_BYTES = 64 * 1024 * 1024;
/** Maximum keys in one file; real ones have under a hundred. */
const KEYS = 65536;
/** Maximum nesting of arrays; no known key nests them. */
const DEPTH = 4;

const BOOL = 7;
const STRING = 8;
const ARRAY = 9;

/**
 * For array elements other than numbers: their smallest size in the file, and how many all arrays together may hold,
 * since each takes far more memory than space in the file. The largest vocabulary with its merges is under a million.
 */
const BOXED: Readonly<Record<number, { bytes: number; allowed: number } | undefined>> = {
  [BOOL]: { bytes: 1, allowed: 16 * 1024 * 1024 },
  [STRING]: { bytes: 8, allowed: 16 * 1024 * 1024 },
  [ARRAY]: { bytes: 12, allowed: 65536 },
};

interface NumberType {
  bytes: number;
  read(view: DataView, at: number): number;
  array: new (count: number) => ArrayBufferView & { [index: number]: number; readonly length: number };
  /** 64-bit integers cannot be copied directly: they become floats, and must be exact. */
  wide?: true;
}

const NUMBERS: Readonly<Record<number, NumberType | undefined>> = {
  0: { bytes: 1, read: (view, at) => view.getUint8(at), array: Uint8Array },
  1: { bytes: 1, read: (view, at) => view.getInt8(at), array: Int8Array },
  2: { bytes: 2, read: (view, at) => view.getUint16(at, true), array: Uint16Array },
  3: { bytes: 2, read: (view, at) => view.getInt16(at, true), array: Int16Array },
  4: { bytes: 4, read: (view, at) => view.getUint32(at, true), array: Uint32Array },
  5: { bytes: 4, read: (view, at) => view.getInt32(at, true), array: Int32Array },
  6: { bytes: 4, read: (view, at) => view.getFloat32(at, true), array: Float32Array },
  10: { bytes: 8, read: (view, at) => Number(view.getBigUint64(at, true)), array: Float64Array, wide: true },
  11: { bytes: 8, read: (view, at) => Number(view.getBigInt64(at, true)), array: Float64Array, wide: true },
  12: { bytes: 8, read: (view, at) => view.getFloat64(at, true), array: Float64Array },
};

/** The offsets of a key's type and value in the file. */
export interface ValueRange {
  readonly offset: number;
  readonly bytes: number;
}

/** Reads `count` key-values. The record has no prototype, so no key can be mistaken for an inherited one. */
export async function readMetadata(
  window: ByteWindow,
  count: number,
): Promise<{ values: Metadata; ranges: ReadonlyMap<string, ValueRange> }> {
  // The smallest entry: a one-letter key (9 bytes), its type (4) and one byte of value.
  checkCount(window, "keys", count, 14, KEYS);
  const values: Metadata = Object.create(null);
  const ranges = new Map<string, ValueRange>();
  const reader = new ValueReader(window);
  for (let i = 0; i < count; i++) {
    const key = await readString(window, `key ${i}`, KEY_BYTES);
    if (key === "") throw new FormatError(window.place, `key ${i} is empty`, "1 to 65535 bytes");
    if (key in values) throw new FormatError(window.place, `key ${quote(key)} occurs twice`);
    if (!window.has(4)) await window.load(4, `the type of ${quote(key)}`);
    const { offset } = window;
    values[key] = await reader.value(window.u32(), key, 0);
    ranges.set(key, { offset, bytes: window.offset - offset });
  }
  return { values, ranges };
}

/** A string after its 64-bit length. */
export async function readString(window: ByteWindow, what: string, allowed: number): Promise<string> {
  if (!window.has(8)) await window.load(8, `the length of ${what}`);
  const bytes = window.u64();
  checkCount(window, `bytes in ${what}`, bytes, 1, allowed);
  if (!window.has(bytes)) await window.load(bytes, what);
  return decodeLenient(window.take(bytes));
}

/** No promise for each string: a vocabulary has up to a million, and nearly all are in the window. */
async function readStrings(window: ByteWindow, what: string, count: number): Promise<string[]> {
  const values: string[] = [];
  while (values.length < count) {
    const bytes = window.peekU64();
    if (bytes !== null && window.has(8 + bytes)) {
      window.u64();
      values.push(decodeLenient(window.take(bytes)));
    } else values.push(await readString(window, what, STRING_BYTES));
  }
  return values;
}

/** Throws FormatError unless `count` items of at least `bytes` each fit into the rest of the file. */
export function checkCount(
  window: ByteWindow,
  what: string,
  count: number,
  bytes: number,
  allowed = Infinity,
): void {
  const fits = Math.min(Math.floor(window.left / bytes), allowed);
  if (count > fits)
    throw new FormatError(window.place, `${count} ${what}`, `${fits} (${window.left} bytes are left)`);
}

/** A name from a file for a message: control characters escaped, length limited. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 77)}...` : name);
}

/** A value from a file for a message, whatever a hostile file made of it. */
export function describeValue(value: unknown): string {
  if (typeof value === "string") return quote(value);
  return typeof value === "object" ? "an array" : describe(value);
}

class ValueReader {
  /** Array elements so far, by type of BOXED. */
  readonly #boxed: Record<number, number> = { [BOOL]: 0, [STRING]: 0, [ARRAY]: 0 };

  constructor(readonly window: ByteWindow) {}

  async value(type: number, key: string, depth: number): Promise<unknown> {
    const { window } = this;
    const number = NUMBERS[type];
    if (number) {
      if (!window.has(number.bytes)) await window.load(number.bytes, quote(key));
      const value = window.number(number.bytes, number.read);
      if (number.wide) checkExact(window, key, value);
      return value;
    }
    if (type === STRING) return readString(window, quote(key), STRING_BYTES);
    if (type === BOOL) return this.bool(key);
    if (type === ARRAY) return this.array(key, depth + 1);
    throw unknownType(window, type, key);
  }

  async bool(key: string): Promise<boolean> {
    const { window } = this;
    if (!window.has(1)) await window.load(1, quote(key));
    const byte = window.take(1)[0];
    if (byte > 1) throw new FormatError(window.place, `the boolean ${byte} in ${quote(key)}`, "0 or 1");
    return byte === 1;
  }

  async array(key: string, depth: number): Promise<unknown> {
    const { window } = this;
    if (depth > DEPTH)
      throw new FormatError(window.place, `arrays nested ${depth} deep in ${quote(key)}`, `${DEPTH}`);
    if (!window.has(12)) await window.load(12, `the array ${quote(key)}`);
    const type = window.u32();
    const count = window.u64();
    const number = NUMBERS[type];
    if (number) return this.numbers(key, number, count);
    const boxed = BOXED[type];
    if (!boxed) throw unknownType(window, type, key);
    checkCount(window, `values in ${quote(key)}`, count, boxed.bytes, boxed.allowed - this.#boxed[type]);
    this.#boxed[type] += count;
    if (type === STRING) return readStrings(window, `a string of ${quote(key)}`, count);
    const values: unknown[] = [];
    for (let i = 0; i < count; i++) values.push(await this.value(type, key, depth));
    return values;
  }

  /** Copies numbers directly, one window at a time (hosts of WASM are little-endian), unless they are 64-bit. */
  async numbers(key: string, { bytes, array, read, wide }: NumberType, count: number): Promise<unknown> {
    const { window } = this;
    checkCount(window, `numbers in ${quote(key)}`, count, bytes);
    const values = new array(count);
    const target = new Uint8Array(values.buffer);
    for (let done = 0; done < target.length; ) {
      const next = Math.min(bytes, target.length - done);
      if (!window.has(next)) await window.load(next, `the array ${quote(key)}`);
      if (wide) {
        values[done / bytes] = window.number(bytes, read);
        checkExact(window, key, values[done / bytes]);
        done += bytes;
      } else {
        const part = window.take(Math.min(window.loaded, target.length - done));
        target.set(part, done);
        done += part.length;
      }
    }
    return values;
  }
}

function unknownType(window: ByteWindow, type: number, key: string): FormatError {
  return new FormatError(window.place, `value type ${type} of ${quote(key)}`, "0 to 12");
}

/** Keys of `general.*` only describe a file (a seed, a parameter count): the nearest number is good enough. */
function checkExact(window: ByteWindow, key: string, value: number): void {
  if (Number.isSafeInteger(value) || (key.startsWith("general.") && key !== "general.alignment")) return;
  throw new FormatError(
    window.place,
    `${quote(key)} is ${value}`,
    `whole numbers up to ${Number.MAX_SAFE_INTEGER}`,
  );
}
