/**
 * The tensor list of a GGUF header, checked against the file: every tensor must be whole blocks, aligned and inside the
 * file, and no two may overlap. Gaps are allowed. GGUF stores dims fastest first; here the first is `cols` and the
 * product of the others is `rows`.
 */
import type { ByteWindow } from "./byte-window.ts";
import { FormatError, UnsupportedError } from "./errors.ts";
import { checkCount, quote, readString } from "./gguf-metadata.ts";
import { tensorType } from "./gguf-types.ts";
import type { TensorShape } from "./range-tensor.ts";
import { BLOCKS, storedRowBytes } from "./tensor.ts";

/** A tensor's shape and the position of its data in the file. */
export interface TensorRange extends TensorShape {
  /** As in the file, fastest axis first: experts of a mixture have three. */
  readonly dims: readonly number[];
  readonly offset: number;
  readonly bytes: number;
}

/** ggml's limit is 63; this limit only keeps hostile names out of memory and messages. */
const NAME_BYTES = 1024;
const DIMENSIONS = 4;
/** A hundred times what a mixture with one tensor for each expert has. */
const TENSORS = 4 * 1024 * 1024;

/**
 * Reads the `count` tensor entries at the window, the last part of the header. `size` is the file's; offsets in the
 * result count from its start.
 */
export async function readTensorList(
  window: ByteWindow,
  count: number,
  file: { name: string; size: number; alignment: number },
): Promise<TensorRange[]> {
  // The smallest entry: a one-letter name (9 bytes), the number of dimensions (4), one of them (8), type (4), offset
  // (8).
  checkCount(window, "tensors", count, 33, TENSORS);
  const names = new Set<string>();
  const entries: TensorRange[] = [];
  for (let i = 0; i < count; i++) {
    const entry = await readEntry(window, i, file);
    if (names.has(entry.name))
      throw new FormatError(window.place, `tensor ${quote(entry.name)} occurs twice`);
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

  if (dims.includes(0)) throw new FormatError(place, `a dimension of 0 in [${dims}]`, "1 or more");
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

/** Every range must be inside the file, and no two may overlap. */
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
        `the file's ${file.size}: it is damaged or not completely downloaded`,
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
 * PrismML's fork of llama.cpp uses q2_0's number, 42, for groups of 128 values in 34 bytes: each tensor then ends where
 * the next begins, which is before the end of its groups of 64. Throws UnsupportedError.
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
      "Supported: groups of 64, as llama.cpp writes them.",
    );
}
