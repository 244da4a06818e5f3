/**
 * The weights of columns for quantizing each tensor of a new file: an importance matrix, from a text or a file, fitted
 * to the file's tensors. Matrices of other models are refused, and gaps are reported.
 */
import type { Device } from "../device/contract.ts";
import type { Checkpoint } from "../format/checkpoint.ts";
import { FormatError, MemoryError, NibbleError } from "../format/errors.ts";
import {
  type CollectOptions,
  collectImportance,
  columnWeights,
  type ImportanceMatrix,
} from "./importance.ts";
import { readImportance, writeImportance } from "./importance-file.ts";
import { openDevice } from "./load.ts";

/** A text that the model reads, or the file of an importance matrix (a GGUF, as llama.cpp's imatrix or nibble wrote it). */
export type ImportanceSource = { readonly text: string; readonly name?: string } | { readonly file: string };

export interface ImportanceOptions extends Omit<CollectOptions, "name"> {
  /** Default "cpu". */
  device?: "cpu" | "reference";
  /** A new file for the matrix. */
  importanceOut?: string;
}

/** A tensor that the matrix must fit: dims with the fastest axis first. */
export interface WeighedTensor {
  readonly name: string;
  readonly dims: readonly number[];
}

/** By tensor, the weights for each expert; null: none. */
export interface TensorWeights {
  readonly of: ReadonlyMap<string, readonly (Float32Array | null)[]>;
  readonly matrix: ImportanceMatrix;
  readonly warnings: readonly string[];
}

/**
 * `checkpoint`: the model as a GGUF. all: every tensor of the new file; searched: those whose blocks depend on weights.
 * Throws FormatError for a matrix of another model, NibbleError "memory" if the model does not fit, and what reading a
 * text or a file throws.
 */
export async function tensorWeights(
  source: ImportanceSource,
  checkpoint: Checkpoint,
  trainedContext: number,
  { all, searched }: { all: readonly WeighedTensor[]; searched: readonly WeighedTensor[] },
  options: ImportanceOptions,
): Promise<TensorWeights> {
  const matrix =
    "file" in source
      ? await readImportance(source.file)
      : await collected(source, checkpoint, trainedContext, options);
  checkFit("file" in source ? source.file : "the importance", matrix, all);
  if (options.importanceOut !== undefined) await writeImportance(options.importanceOut, matrix);
  const of = new Map<string, (Float32Array | null)[]>();
  const without: string[] = [];
  let [experts, silent] = [0, 0];
  for (const { name } of searched) {
    const found = matrix.tensors.get(name);
    // The output and the embedding are never weighed.
    if (!found) {
      if (name.startsWith("blk.")) without.push(name);
      continue;
    }
    const own = Array.from(found.counts, (_, expert) => columnWeights(found, expert));
    of.set(name, own);
    if (own.length === 1 && own[0] === null) without.push(name);
    if (own.length === 1) continue;
    experts += own.length;
    silent += own.filter((weights) => weights === null).length;
  }
  const warnings = [
    ...(without.length > 0
      ? [`${without.length} matrices have no importance and are quantized without: ${some(without)}`]
      : []),
    ...(silent > 0
      ? [`${silent} of ${experts} matrices of experts met no token and are quantized without importance`]
      : []),
  ];
  return { of, matrix, warnings };
}

async function collected(
  { text, name = "text" }: Extract<ImportanceSource, { text: string }>,
  checkpoint: Checkpoint,
  trainedContext: number,
  options: ImportanceOptions,
): Promise<ImportanceMatrix> {
  const { device = "cpu", threads } = options;
  const open = (): Promise<Device> => openDevice({ device, threads });
  try {
    return await collectImportance(checkpoint, text, trainedContext, open, {
      ...options,
      // A path shows where a person keeps files.
      name: name.split(/[\\/]/).pop()!,
    });
  } catch (error) {
    if (!(error instanceof MemoryError)) throw error;
    const wayOut =
      "Collecting the importance requires the model in memory: collect it from a smaller quantization with importanceOut (--importance-out), and use that file.";
    throw new NibbleError("memory", `${error.message} ${wayOut}`, { cause: error });
  }
}

/** Names and sizes. */
function checkFit(place: string, matrix: ImportanceMatrix, all: readonly WeighedTensor[]): void {
  const tensors = new Map(all.map((tensor) => [tensor.name, tensor]));
  const foreign = [...matrix.tensors.keys()].filter((name) => !tensors.has(name));
  if (foreign.length > 0 || matrix.tensors.size === 0)
    throw new FormatError(
      place,
      matrix.tensors.size === 0
        ? "an importance matrix without a tensor"
        : `an importance matrix of another model: ${foreign.length} of its ${matrix.tensors.size} tensors are not in this one (${some(foreign)})`,
      "one of this model",
    );
  for (const [name, { sums, counts }] of matrix.tensors) {
    const [cols, , experts = 1] = tensors.get(name)!.dims;
    if (sums.length === cols * experts && counts.length === experts) continue;
    throw new FormatError(
      `${place}: ${name}`,
      `an importance matrix of another model: ${sums.length / counts.length} columns of ${counts.length} matrices`,
      `${cols} of ${experts}`,
    );
  }
}

const some = (names: readonly string[]) =>
  names.slice(0, 3).join(", ") + (names.length > 3 ? ` and ${names.length - 3} more` : "");
