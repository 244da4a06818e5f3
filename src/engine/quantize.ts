/**
 * Converts a checkpoint into a GGUF of another type (Node only): finds the source, chooses each tensor's type, plans
 * the file, then reads, expands, quantizes and writes row after row. Only a few rows are ever in memory, so a 70B model
 * passes through a few tens of megabytes; only a text's importance needs all of the model (importance.ts).
 */
import { dequantize } from "../format/blocks.ts";
import type { Checkpoint } from "../format/checkpoint.ts";
import { ArgumentError, FormatError, throwIfAborted } from "../format/errors.ts";
import { areFinite, finiteTensor } from "../format/finite-tensor.ts";
import { typeNumber } from "../format/gguf-types.ts";
import { type PlannedFile, planFile, valueBytes, type WrittenKey } from "../format/gguf-write.ts";
import { checkNewFile, writeNewFile } from "../format/new-file.ts";
import { openCheckpoint } from "../format/open.ts";
import { isSearched, type QuantizedType, quantize } from "../format/quantize.ts";
import { BLOCKS, rowBytes, storedRowBytes, type Tensor, type TensorType } from "../format/tensor.ts";
import { MIXTURES, type MixtureName, mixTypes, mixtureOf } from "../model/mixture.ts";
import { openModel } from "../model/model.ts";
import { type FindOptions, findModel } from "./find-model.ts";
import { folderAsGguf, type GgufParts } from "./folder-gguf.ts";
import type { ImportanceMatrix } from "./importance.ts";
import {
  type ImportanceOptions,
  type ImportanceSource,
  type TensorWeights,
  tensorWeights,
} from "./quantize-weights.ts";

/** Options of `quantizeModel`. */
export interface QuantizeOptions
  extends FindOptions,
    Pick<ImportanceOptions, "threads" | "memoryBytes" | "device" | "importanceOut"> {
  /** q4_k (the same as q4_k_m), q4_0, q6_k, q8_0, ..., f16, bf16, f32: `MIXTURES`. */
  type: string;
  /**
   * Weighs errors by the importance of matrix columns: from a text, which the model reads first (so it has to fit in
   * memory, and the text to have 512 tokens), or from a file. Default: no weights.
   */
  importance?: ImportanceSource;
  /** Called after each piece, with bytes of the new file. */
  onProgress?: (progress: QuantizeProgress) => void;
  /** Called while the importance text is read. */
  onReading?: ImportanceOptions["onProgress"];
}

/** Progress of quantizing. */
export interface QuantizeProgress {
  readonly bytes: number;
  readonly totalBytes: number;
  /** The current tensor. */
  readonly tensor: string;
}

/** The result of `quantizeModel`. */
export interface Quantized {
  readonly path: string;
  readonly mixture: MixtureName;
  readonly bytes: number;
  readonly sourceBytes: number;
  /** The importance that was used: the matrices that it applied to, and the names of its texts; null: none. */
  readonly importance: { readonly matrices: number; readonly datasets: readonly string[] } | null;
  /** Tensors and bytes of the new file by type. */
  readonly types: readonly { readonly type: TensorType; readonly tensors: number; readonly bytes: number }[];
  /** Notes on the result for people, one line each. */
  readonly warnings: readonly string[];
}

/** Expanded values in memory at a time. */
const STEP_VALUES = 1 << 20;

/**
 * Quantizes what `load` takes into the new file `target`, which appears complete or not at all. Throws what finding and
 * opening throw; UnsupportedError for an unknown type; FormatError for a weight that is an infinity or a NaN;
 * NibbleError "io" if the target exists or the disk is full; AbortedError.
 */
export async function quantizeModel(
  source: string,
  target: string,
  options: QuantizeOptions,
): Promise<Quantized> {
  const mixture = mixtureOf(options.type);
  for (const path of [target, options.importanceOut]) if (path !== undefined) await checkNewFile(path);
  const checkpoint = await openCheckpoint(await findModel(source, options));
  try {
    const model = await openModel(checkpoint);
    const parts = checkpoint.kind === "gguf" ? ggufParts(checkpoint) : await folderAsGguf(model);
    const { keys, tensors, warnings } = parts;
    const types = mixTypes(mixture, tensors, model.config, options.importance !== undefined);
    const planned = tensors.map((part, i) => ({ ...part, type: targetType(part.tensor, types[i]) }));
    const weights = await weightsOf(options, parts.checkpoint, model.config.trainedContext, planned);
    const written = [
      ...(await keptKeys(checkpoint, keys)),
      ...(weights ? importanceKeys(weights.matrix) : []),
      { key: "general.file_type", bytes: valueBytes({ u32: MIXTURES[mixture].fileType }) },
      { key: "general.quantization_version", bytes: valueBytes({ u32: 2 }) },
    ];
    const alignment = Number(checkpoint.metadata["general.alignment"] ?? 32);
    const file = planFile(written, planned, checkpoint.kind === "gguf" ? alignment : 32);
    await writeNewFile(target, file.bytes, (append) => fill(file, planned, weights?.of, append, options));
    return {
      ...{ path: target, mixture, bytes: file.bytes, types: byType(planned) },
      sourceBytes: tensors.reduce((sum, { tensor }) => sum + stored(tensor), 0),
      importance: weights && { matrices: weights.of.size, datasets: weights.matrix.datasets },
      warnings: [...warnings, ...copiedTypes(planned), ...(weights?.warnings ?? [])],
    };
  } finally {
    await checkpoint.close();
  }
}

/** null: none was requested. Throws what `tensorWeights` throws, and ArgumentError if it would have no effect. */
async function weightsOf(
  options: QuantizeOptions,
  asGguf: Checkpoint,
  trainedContext: number,
  all: readonly Planned[],
): Promise<TensorWeights | null> {
  const { importance, importanceOut, onReading } = options;
  if (importance === undefined) {
    if (importanceOut === undefined) return null;
    throw new ArgumentError("importanceOut", importanceOut, "a file's name together with an importance");
  }
  const searched = all.filter(({ tensor, type }) => isSearched(type) && tensor.type !== type);
  if (searched.length === 0 && importanceOut === undefined)
    throw new ArgumentError(
      "importance",
      `given for ${options.type}, of which no tensor is chosen by it`,
      "types of fewer than 8 bits",
    );
  const collect = { ...options, onProgress: onReading };
  return tensorWeights(importance, asGguf, trainedContext, { all, searched }, collect);
}

/** As llama.cpp's quantizer writes them. */
function importanceKeys({ tensors, datasets, chunks }: ImportanceMatrix): WrittenKey[] {
  const key = (name: string, value: Parameters<typeof valueBytes>[0]) => ({
    ...{ key: `quantize.imatrix.${name}`, bytes: valueBytes(value) },
  });
  return [
    ...datasets.slice(0, 1).map((name) => key("dataset", { string: name })),
    key("entries_count", { u32: tensors.size }),
    key("chunks_count", { u32: chunks }),
  ];
}

type Planned = GgufParts["tensors"][number] & { readonly type: TensorType };

/** Keys about splitting and quantization are written anew. */
const OWN_KEYS = /^split\.|^general\.(file_type|quantization_version)$|^quantize\.imatrix\./;

async function keptKeys(checkpoint: Checkpoint, keys: readonly WrittenKey[]): Promise<WrittenKey[]> {
  const { layout } = checkpoint;
  if (!layout) return [...keys];
  const kept = layout.keys.filter((key) => !OWN_KEYS.test(key));
  return Promise.all(kept.map(async (key) => ({ key, bytes: await layout.value(key) })));
}

function ggufParts(checkpoint: Checkpoint): GgufParts {
  const { tensors, layout } = checkpoint;
  const parts = [...tensors.values()].map((tensor) => ({
    ...{ tensor, name: tensor.name, dims: layout!.dims.get(tensor.name)! },
  }));
  return { keys: [], tensors: parts, warnings: [], checkpoint };
}

const stored = ({ type, rows, cols }: Tensor) => rows * storedRowBytes(type, cols);
const isFloat = (type: TensorType) => BLOCKS[type].elements === 1;

/**
 * A tensor that is already quantized, to no more bits than the new type would take, is copied: rounding again only
 * loses.
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
          `${again.length} tensors were ${names(again)} and are rounded a second time, which costs quality: quantize from the unquantized model if there is one`,
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
  weights: TensorWeights["of"] | undefined,
  append: (bytes: Uint8Array) => Promise<void>,
  { onProgress, signal }: QuantizeOptions,
): Promise<void> {
  await append(header);
  let bytes = header.length;
  for (const [i, { tensor, name, type }] of planned.entries()) {
    for await (const rows of converted(tensor, type, weights?.get(name))) {
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

/**
 * The rows of a tensor in another type, some at a time, with the weights of each of its experts. The array is reused.
 */
async function* converted(
  tensor: Tensor,
  type: TensorType,
  weights: readonly (Float32Array | null)[] = [null],
): AsyncGenerator<Uint8Array> {
  const { rows, cols } = tensor;
  const expertRows = rows / weights.length;
  const step = Math.min(rows, Math.max(1, Math.floor(STEP_VALUES / cols)));
  const checked = finiteTensor(tensor);
  const read = new Uint8Array(step * rowBytes(tensor.type, cols));
  const values = new Float32Array(tensor.type === type ? 0 : step * cols);
  const out = new Uint8Array(tensor.type === type ? 0 : step * rowBytes(type, cols));
  for (let first = 0, count = 0; first < rows; first += count) {
    count = Math.min(step, expertRows - (first % expertRows));
    const from = read.subarray(0, count * rowBytes(tensor.type, cols));
    await checked.readRows(first, count, from);
    if (tensor.type === type) {
      yield from;
      continue;
    }
    const expanded = values.subarray(0, count * cols);
    dequantize(tensor.type, from, expanded);
    const blocks = out.subarray(0, count * rowBytes(type, cols));
    quantize(type as QuantizedType, expanded, blocks, weights[Math.floor(first / expertRows)]);
    checkScales(tensor, type, blocks);
    yield blocks;
  }
}

/** A weight beyond f16's range would make an infinite scale. */
function checkScales({ name }: Tensor, type: TensorType, blocks: Uint8Array): void {
  if (areFinite(type, blocks)) return;
  throw new FormatError(
    `tensor ${name}`,
    `a value too large for ${type}`,
    "another --type, such as f32 or bf16",
  );
}
