/**
 * The header of one GGUF file (v2 or v3, little-endian): magic, version, counts, key-values, tensor list. Only the
 * header is read, through a growing window (byte-window.ts); weights stay in the file until `readRows` asks for them.
 * Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
import { ByteWindow } from "./byte-window.ts";
import { FormatError, UnsupportedError } from "./errors.ts";
import { describeValue, type Metadata, quote, readMetadata } from "./gguf-metadata.ts";
import { readTensorList } from "./gguf-tensors.ts";
import { nvfp4Tensor } from "./nvfp4.ts";
import { rangeTensor } from "./range-tensor.ts";
import type { Source } from "./source.ts";
import type { Tensor } from "./tensor.ts";

export interface GgufHeader {
  /** Arrays of numbers are typed arrays; the record has no prototype. */
  readonly metadata: Readonly<Metadata>;
  /** By name, in the file's order. */
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly layout: GgufLayout;
}

/** What copying the file requires besides values and rows. */
export interface GgufLayout {
  readonly keys: readonly string[];
  /** The bytes of a key's type and value. They hold what the parsed value does not: whether a 5 is an i8 or a u64. */
  value(key: string): Promise<Uint8Array>;
  /** The dims of each tensor, fastest axis first. */
  readonly dims: ReadonlyMap<string, readonly number[]>;
}

const MAGIC = 0x46554747; // "GGUF" as a little-endian u32
/** Alignment of the tensor data and of each tensor in it, if the file does not give one. */
const ALIGNMENT = 32;

/** Reads and checks everything before the tensor data. Throws FormatError and UnsupportedError. */
export async function readGgufHeader(source: Source): Promise<GgufHeader> {
  const window = new ByteWindow(source);
  await window.load(24, "a GGUF header");
  const magic = window.u32();
  if (magic !== MAGIC) {
    throw new FormatError(source.name, `starts with 0x${magic.toString(16).padStart(8, "0")}`, '"GGUF"');
  }
  checkVersion(source.name, window.u32());
  const tensorCount = window.u64();
  const { values: metadata, ranges: places } = await readMetadata(window, window.u64());
  const alignment = readAlignment(source.name, metadata);
  const { name, size } = source;
  const ranges = await readTensorList(window, tensorCount, { name, size, alignment });
  const tensors = new Map(
    ranges.map((range) => {
      const make = range.type === "nvfp4" ? nvfp4Tensor : rangeTensor;
      return [range.name, make(source, range, range.offset)];
    }),
  );
  const layout: GgufLayout = {
    keys: [...places.keys()],
    async value(key) {
      const { offset, bytes } = places.get(key)!;
      const into = new Uint8Array(bytes);
      await source.read(offset, into);
      return into;
    },
    dims: new Map(ranges.map(({ name, dims }) => [name, dims])),
  };
  return { metadata, tensors, layout };
}

function checkVersion(file: string, version: number): void {
  if (version === 2 || version === 3) return;
  const bigEndian = version !== 0 && (version & 0xffff) === 0;
  if (bigEndian)
    throw new UnsupportedError(`${file}: a big-endian GGUF file`, "Convert it to little-endian.");
  const wayOut = version === 1 ? "Convert it with a current llama.cpp." : "This version reads 2 and 3.";
  throw new UnsupportedError(`${file}: GGUF version ${version}`, wayOut);
}

function readAlignment(file: string, metadata: Metadata): number {
  const key = "general.alignment";
  const alignment = key in metadata ? metadata[key] : ALIGNMENT;
  const isPower = typeof alignment === "number" && alignment > 0 && Number.isInteger(Math.log2(alignment));
  if (!isPower || alignment > 2 ** 31) {
    throw new FormatError(file, `${quote(key)} is ${describeValue(alignment)}`, "powers of two up to 2^31");
  }
  return alignment;
}
