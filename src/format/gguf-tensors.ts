/**
 * The tensor list of a GGUF header, and the proof that it describes the rest of the file: every tensor whole blocks,
 * aligned, inside the file, and no two over the same bytes. Gaps are allowed: they are padding, or waste.
 * GGUF gives dimensions fastest first; here the first is `cols` and the product of the others is `rows`.
 */
import type { ByteWindow } from "./byte-window.ts";
import { FormatError, UnsupportedError } from "./errors.ts";
import { checkCount, quote, readString } from "./gguf-metadata.ts";
import { tensorType } from "./gguf-types.ts";
import type { TensorShape } from "./range-tensor.ts";
import { BLOCKS, storedRowBytes } from "./tensor.ts";

/** A tensor's shape with where its data lies in the file. */
export interface TensorRange extends TensorShape {
  /** As in the file, the fastest axis first: experts of a mixture have three. */
  readonly dims: readonly number[];
  readonly offset: number;
  readonly bytes: number;
}

/** ggml itself stops at 63; this only keeps a hostile name out of memory and messages. */
const NAME_BYTES = 1024;
const DIMENSIONS = 4;
/** A hundred times what a mixture of experts with one tensor for each expert has. */
const TENSORS = 4 * 1024 * 1024;

/**
 * Reads `count` tensor entries at the window, which end the header. `size` is the file's, offsets in the result
 * count from its start.
 */
export async function readTensorList(
  window: ByteWindow,
  count: number,
  file: { name: string; size: number; alignment: number },
): Promise<TensorRange[]> {
  // The smallest: a one-letter name (9 bytes), the number of dimensions (4), one of them (8), type (4), offset (8).
  checkCount(window, "tensors", count, 33, TENSORS);
  const names = new Set<string>();
  const entries: TensorRange[] = [];
  for (let i = 0; i < count; i++) {
    const entry = await readEntry(window, i, file);
    if (names.has(entry.name))
      throw new FormatError(window.place, `tensor ${quote(entry.name)} comes a second time`);
    names.add(entry.name);
    entries.push(entry);
  }
  const start = Math.ceil(window.offset / file.alignment) * file.alignment;
  const tensors = entries.map((entry) => ({ ...entry, offset: start + entry.offset }));
  checkRanges(tensors, file);
  return tensors;
}

async function readEntry(
  window: ByteWindow,
  index: number,
  { name: file, alignment }: { name: string; alignment: number },
): Promise<TensorRange> {
  const name = await readString(window, `the name of tensor ${index}`, NAME_BYTES);
  const place = `${file}: tensor ${quote(name)}`;
  if (!window.has(4)) await window.load(4, `tensor ${quote(name)}`);
  const count = window.u32();
  if (name === "") throw new FormatError(window.place, `tensor ${index} has no name`);
  if (count === 0 || count > DIMENSIONS)
    throw new FormatError(place, `${count} dimensions`, `1 to ${DIMENSIONS}`);
  if (!window.has(8 * count + 12)) await window.load(8 * count + 12, `tensor ${quote(name)}`);
  const dims = Array.from({ length: count }, () => window.u64());
  const type = tensorType(window.u32(), quote(name), file);
  const offset = window.u64();

  if (dims.includes(0)) throw new FormatError(place, `a dimension of 0 in [${dims}]`, "1 and more");
  const [cols, ...outer] = dims;
  const rows = outer.reduce((product, dim) => product * dim, 1);
  const { elements } = BLOCKS[type];
  if (cols % elements !== 0)
    throw new FormatError(place, `rows of ${cols} ${type} values`, `multiples of ${elements}`);
  const bytes = rows * storedRowBytes(type, cols);
  if (!Number.isSafeInteger(bytes) || !Number.isSafeInteger(rows * cols)) {
    throw new FormatError(place, `dimensions [${dims}] overflow`, "tensors of up to 2^53 bytes");
  }
  if (offset % alignment !== 0 || !Number.isSafeInteger(offset)) {
    throw new FormatError(place, `its data at offset ${offset}`, `multiples of ${alignment}`);
  }
  return { name, type, rows, cols, dims, offset, bytes };
}

/** Every range inside the file, and no two over the same bytes. */
function checkRanges(
  tensors: readonly TensorRange[],
  file: { name: string; size: number; alignment: number },
): void {
  const byOffset = [...tensors].sort((a, b) => a.offset - b.offset);
  let before: TensorRange | undefined;
  for (const tensor of byOffset) {
    const { name, offset, bytes } = tensor;
    const place = `${file.name}: tensor ${quote(name)}`;
    if (offset + bytes > file.size) {
      const cause = `its data is bytes ${offset} to ${offset + bytes}`;
      throw new FormatError(
        place,
        cause,
        `the file's ${file.size}: it is damaged or was not wholly downloaded`,
      );
    }
    if (before && before.offset + before.bytes > offset) {
      checkGroups(before, offset, file);
      throw new FormatError(place, `its data starts at byte ${offset}, inside that of ${quote(before.name)}`);
    }
    before = tensor;
  }
}

/**
 * Files of PrismML's fork of llama.cpp have q2_0's number, 42, for groups of 128 values in 34 bytes: each tensor then ends where
 * the next begins, which is inside of what it would be in groups of 64. UnsupportedError.
 */
function checkGroups(
  { name, type, rows, cols, offset }: TensorRange,
  next: number,
  file: { name: string; alignment: number },
): void {
  const end = offset + ((rows * cols) / 128) * 34;
  if (type === "q2_0" && Math.ceil(end / file.alignment) * file.alignment === next)
    throw new UnsupportedError(
      `${file.name}: tensor ${quote(name)} of type q2_0 in groups of 128, as a fork of llama.cpp writes it`,
      "Groups of 64, as llama.cpp writes them, are.",
    );
}
