/**
 * One .safetensors file: an 8-byte header length, a JSON header, then the arrays. The header is checked against the
 * file: sizes agree with shapes, every range is inside, no two overlap. Gaps between arrays and bytes after the last
 * are allowed, though the reference library writes none: they do not matter to a reader by ranges. Format:
 * github.com/huggingface/safetensors
 */
import { FormatError } from "./errors.ts";
import { decodeUtf8 } from "./folder.ts";
import { asObject, describe, type JsonObject, parseJson } from "./json.ts";
import type { Source } from "./source.ts";

/** An array in a file: `bytes` bytes at byte `offset` of `source`; the last axis of `shape` is the fastest. */
export interface SafetensorsEntry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly source: Source;
  readonly offset: number;
  readonly bytes: number;
}

/** The reference library's limit. */
const HEADER_BYTES = 100_000_000;

const DIMENSIONS = 8;

/** Bits of one element. For other dtypes only the range is checked. */
const BITS: Readonly<Record<string, number>> = {
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E4M3: 8,
  F8_E5M2: 8,
  F8_E8M0: 8,
  U16: 16,
  I16: 16,
  F16: 16,
  BF16: 16,
  U32: 32,
  I32: 32,
  F32: 32,
  U64: 64,
  I64: 64,
  F64: 64,
};

/** Reads and checks the header: the arrays by name, in the header's order. The caller keeps and closes `source`. */
export async function readSafetensors(source: Source): Promise<ReadonlyMap<string, SafetensorsEntry>> {
  const { name: file, size } = source;
  if (size < 8) throw new FormatError(file, `${size} bytes`, "at least 8 in a safetensors file");
  const length = new Uint8Array(8);
  await source.read(0, length);
  const headerBytes = Number(new DataView(length.buffer).getBigUint64(0, true));
  const allowed = Math.min(size - 8, HEADER_BYTES);
  if (headerBytes > allowed) throw new FormatError(file, `a header of ${headerBytes} bytes`, `${allowed}`);
  const bytes = new Uint8Array(headerBytes);
  await source.read(8, bytes);
  const place = `${file}: header`;
  const header = asObject(parseJson(decodeUtf8(bytes, place), place), place);

  const start = 8 + headerBytes;
  const entries = new Map<string, SafetensorsEntry>();
  for (const [name, value] of Object.entries(header)) {
    // Free text of the file's author.
    if (name !== "__metadata__") entries.set(name, readEntry(source, name, value, start));
  }
  checkOverlap(file, [...entries.values()]);
  return entries;
}

function readEntry(source: Source, name: string, value: unknown, start: number): SafetensorsEntry {
  const place = `${source.name}: ${describe(name)}`;
  const { dtype, shape, data_offsets: offsets }: JsonObject = asObject(value, place);
  if (typeof dtype !== "string" || dtype.length > 16) {
    throw new FormatError(place, `dtype ${describe(dtype)}`, "a short name");
  }
  if (!isCounts(shape) || shape.length > DIMENSIONS) {
    throw new FormatError(place, `shape ${describe(shape)}`, `up to ${DIMENSIONS} whole numbers`);
  }
  const dataBytes = source.size - start;
  if (!isCounts(offsets) || offsets.length !== 2 || offsets[0] > offsets[1] || offsets[1] > dataBytes) {
    const range = `[begin, end] with begin <= end <= ${dataBytes}, the bytes after the header`;
    throw new FormatError(place, `data_offsets ${describe(offsets)}`, range);
  }
  const bytes = offsets[1] - offsets[0];
  const expected = Object.hasOwn(BITS, dtype) ? (count(shape) * BITS[dtype]) / 8 : bytes;
  if (bytes !== expected)
    throw new FormatError(place, `${bytes} bytes for ${dtype} [${shape}]`, `${expected}`);
  return { name, dtype, shape, source, offset: start + offsets[0], bytes };
}

/** Elements of an array of this shape; 1 for a scalar's []. */
export function count(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

function checkOverlap(file: string, entries: SafetensorsEntry[]): void {
  const byOffset = entries.filter(({ bytes }) => bytes > 0).sort((a, b) => a.offset - b.offset);
  for (let i = 1; i < byOffset.length; i++) {
    const before = byOffset[i - 1];
    const { name, offset } = byOffset[i];
    if (before.offset + before.bytes > offset) {
      const found = `its data starts at byte ${offset}, inside that of ${describe(before.name)}`;
      throw new FormatError(`${file}: ${describe(name)}`, found);
    }
  }
}
