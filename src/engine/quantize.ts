/**
 * A checkpoint -> a GGUF of another type (Node only). Owns the order: what the source is, what each tensor becomes, the
 * plan of the file, then row after row: read, expanded, quantized, written. One idea: nothing but some rows is ever in
 * memory, so a 70B model passes through a few tens of megabytes.
 */
import { dequantize } from "../format/blocks.ts";
import type { Checkpoint } from "../format/checkpoint.ts";
import { FormatError, throwIfAborted } from "../format/errors.ts";
import { areFinite, finiteTensor } from "../format/finite-tensor.ts";
import { typeNumber } from "../format/gguf-types.ts";
import { type PlannedFile, planFile, valueBytes, type WrittenKey } from "../format/gguf-write.ts";
import { writeNewFile } from "../format/new-file.ts";
import { openCheckpoint } from "../format/open.ts";
import { type QuantizedType, quantize } from "../format/quantize.ts";
import { BLOCKS, rowBytes, storedRowBytes, type Tensor, type TensorType } from "../format/tensor.ts";
import { MIXTURES, type MixtureName, mixTypes, mixtureOf } from "../model/mixture.ts";
import { openModel } from "../model/model.ts";
import { type FindOptions, findModel } from "./find-model.ts";
import { folderAsGguf, type GgufParts } from "./folder-gguf.ts";

export interface QuantizeOptions extends FindOptions {
  /** q4_k (the same as q4_k_m), q4_0, q6_k, q8_0, ..., f16, bf16, f32: `MIXTURES`. */
  type: string;
  /** Called after each piece, with bytes of the new file. */
  onProgress?: (progress: QuantizeProgress) => void;
}

export interface QuantizeProgress {
  readonly bytes: number;
  readonly totalBytes: number;
  /** The tensor at hand. */
  readonly tensor: string;
}

export interface Quantized {
  readonly path: string;
  readonly mixture: MixtureName;
  readonly bytes: number;
  readonly sourceBytes: number;
  /** Tensors and bytes of the new file by type. */
  readonly types: readonly { readonly type: TensorType; readonly tensors: number; readonly bytes: number }[];
  /** What a person should know of the result, one line each. */
  readonly warnings: readonly string[];
}

/** A source as a GGUF: what its keys and tensors are, before any type is chosen. */
/** Expanded values that are in memory at a time. */
const PIECE_VALUES = 1 << 20;

/**
 * Quantizes what `load` takes into the new file `target`, which appears whole or not at all. Throws what finding and opening
 * throw; UnsupportedError for a type that is not known; FormatError for a weight that is an infinity or a NaN; NibbleError
 * "io" where the target exists or the disk is full; AbortedError.
 */
export async function quantizeModel(
  source: string,
  target: string,
  options: QuantizeOptions,
): Promise<Quantized> {
  const mixture = mixtureOf(options.type);
  const checkpoint = await openCheckpoint(await findModel(source, options));
  try {
    const model = await openModel(checkpoint);
    const { keys, tensors, warnings } =
      checkpoint.kind === "gguf" ? ggufParts(checkpoint) : await folderAsGguf(model);
    const types = mixTypes(mixture, tensors, model.config);
    const planned = tensors.map((part, i) => ({ ...part, type: targetType(part.tensor, types[i]) }));
    const written = [
      ...(await keptKeys(checkpoint, keys)),
      { key: "general.file_type", bytes: valueBytes({ u32: MIXTURES[mixture].fileType }) },
      { key: "general.quantization_version", bytes: valueBytes({ u32: 2 }) },
    ];
    const alignment = Number(checkpoint.metadata["general.alignment"] ?? 32);
    const file = planFile(written, planned, checkpoint.kind === "gguf" ? alignment : 32);
    await writeNewFile(target, file.bytes, (append) => fill(file, planned, append, options));
    return {
      ...{ path: target, mixture, bytes: file.bytes, types: byType(planned) },
      sourceBytes: tensors.reduce((sum, { tensor }) => sum + stored(tensor), 0),
      warnings: [...warnings, ...copiedTypes(planned)],
    };
  } finally {
    await checkpoint.close();
  }
}

type Planned = GgufParts["tensors"][number] & { readonly type: TensorType };

/** What says how a file is cut or quantized is written anew. */
const OWN_KEYS = /^split\.|^general\.(file_type|quantization_version)$|^quantize\.imatrix\./;

async function keptKeys(checkpoint: Checkpoint, keys: readonly WrittenKey[]): Promise<WrittenKey[]> {
  const { layout } = checkpoint;
  if (!layout) return [...keys];
  const kept = layout.keys.filter((key) => !OWN_KEYS.test(key));
  return Promise.all(kept.map(async (key) => ({ key, bytes: await layout.value(key) })));
}

function ggufParts({ tensors, layout }: Checkpoint): GgufParts {
  const parts = [...tensors.values()].map((tensor) => ({
    ...{ tensor, name: tensor.name, dims: layout!.dims.get(tensor.name)! },
  }));
  return { keys: [], tensors: parts, warnings: [] };
}

const stored = ({ type, rows, cols }: Tensor) => rows * storedRowBytes(type, cols);
const isFloat = (type: TensorType) => BLOCKS[type].elements === 1;

/**
 * A tensor that is quantized already, to no more bits than another quantized type would take, stays as it is: rounding again
 * only loses.
 */
function targetType(tensor: Tensor, wanted: QuantizedType | null): TensorType {
  const { type, cols } = tensor;
  const asItIs = typeNumber(type) !== null && type !== "nvfp4";
  if (wanted === null) {
    return asItIs ? type : "f32";
  }
  const narrower = !isFloat(type) && !isFloat(wanted) && rowBytes(type, cols) <= rowBytes(wanted, cols);
  return narrower && asItIs ? type : wanted;
}

function copiedTypes(planned: readonly Planned[]): string[] {
  const again = planned.filter(
    ({ tensor, type }) => !isFloat(tensor.type) && tensor.type !== type && !isFloat(type),
  );
  const copied = planned.filter(({ tensor, type }) => !isFloat(type) && tensor.type === type);
  return [
    ...(copied.length > 0
      ? [`${copied.length} tensors were ${names(copied)} already and are copied as they are`]
      : []),
    ...(again.length > 0
      ? [
          `${again.length} tensors were ${names(again)} and are rounded a second time, which costs quality: quantize from the unquantized model where there is one`,
        ]
      : []),
  ];
}

const names = (planned: readonly Planned[]) =>
  [...new Set(planned.map(({ tensor }) => tensor.type))].join(", ");

function byType(planned: readonly Planned[]): Quantized["types"] {
  const sums = new Map<TensorType, { tensors: number; bytes: number }>();
  for (const { type, tensor } of planned) {
    const sum = sums.get(type) ?? { tensors: 0, bytes: 0 };
    sums.set(type, {
      tensors: sum.tensors + 1,
      bytes: sum.bytes + tensor.rows * storedRowBytes(type, tensor.cols),
    });
  }
  return [...sums].map(([type, sum]) => ({ type, ...sum })).sort((a, b) => b.bytes - a.bytes);
}

async function fill(
  { header, places, bytes: totalBytes }: PlannedFile,
  planned: readonly Planned[],
  append: (bytes: Uint8Array) => Promise<void>,
  { onProgress, signal }: QuantizeOptions,
): Promise<void> {
  await append(header);
  let bytes = header.length;
  for (const [i, { tensor, name, type }] of planned.entries()) {
    for await (const rows of converted(tensor, type)) {
      throwIfAborted(signal, "quantizing");
      await append(rows);
      bytes += rows.length;
      onProgress?.({ bytes, totalBytes, tensor: name });
    }
    const next = places[i + 1]?.offset ?? totalBytes;
    await append(new Uint8Array(next - bytes));
    bytes = next;
  }
}

/** The rows of a tensor in another type, some at a time. The array is used again. */
async function* converted(tensor: Tensor, type: TensorType): AsyncGenerator<Uint8Array> {
  const { rows, cols } = tensor;
  const step = Math.min(rows, Math.max(1, Math.floor(PIECE_VALUES / cols)));
  const checked = finiteTensor(tensor);
  const read = new Uint8Array(step * rowBytes(tensor.type, cols));
  const values = new Float32Array(tensor.type === type ? 0 : step * cols);
  const out = new Uint8Array(tensor.type === type ? 0 : step * rowBytes(type, cols));
  for (let first = 0; first < rows; first += step) {
    const count = Math.min(step, rows - first);
    const from = read.subarray(0, count * rowBytes(tensor.type, cols));
    await checked.readRows(first, count, from);
    if (tensor.type === type) {
      yield from;
      continue;
    }
    const expanded = values.subarray(0, count * cols);
    dequantize(tensor.type, from, expanded);
    const blocks = out.subarray(0, count * rowBytes(type, cols));
    quantize(type as QuantizedType, expanded, blocks);
    checkScales(tensor, type, blocks);
    yield blocks;
  }
}

/** A weight beyond what an f16 holds would make an infinite scale. */
function checkScales({ name }: Tensor, type: TensorType, blocks: Uint8Array): void {
  if (areFinite(type, blocks)) return;
  throw new FormatError(
    `tensor ${name}`,
    `a value too large for ${type}`,
    "another --type, such as f32 or bf16",
  );
}
