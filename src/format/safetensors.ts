/**
 * A checkpoint as Hugging Face and MLX publish it: a folder with config.json and one or several .safetensors files.
 * This file finds the files (one, or shards by model.safetensors.index.json) and turns their arrays into tensors.
 */
import { FormatError, UnsupportedError } from "./errors.ts";
import { type Folder, openFile, readJson } from "./folder.ts";
import { asObject, describe, type JsonObject } from "./json.ts";
import { type MlxParts, mlxTensor, mlxType } from "./mlx.ts";
import { mxfp4Tensor } from "./mxfp4.ts";
import { rangeTensor } from "./range-tensor.ts";
import { count, readSafetensors, type SafetensorsEntry } from "./safetensors-file.ts";
import type { Source } from "./source.ts";
import type { Tensor, TensorType } from "./tensor.ts";
import { Weights } from "./weights.ts";

export interface SafetensorsFolder {
  /** config.json, parsed. */
  readonly config: JsonObject;
  /** By their names in the files; MLX's three arrays of a quantized weight are one tensor. */
  readonly tensors: ReadonlyMap<string, Tensor>;
  close(): Promise<void>;
}

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";
const PLAIN: Readonly<Record<string, TensorType>> = { F32: "f32", F16: "f16", BF16: "bf16" };

/**
 * Reads config.json and all headers. Throws FormatError if it is damaged or incomplete, UnsupportedError for other
 * quantizations.
 */
export async function openSafetensors(folder: Folder): Promise<SafetensorsFolder> {
  const place = `${folder.name}/config.json`;
  const found = await readJson(folder, "config.json");
  if (found === undefined)
    throw new FormatError(folder.name, "a folder without config.json", "a Hugging Face or MLX folder");
  const config = asObject(found, place);
  const quantization = readQuantization(config, place);
  const sources: Source[] = [];
  const close = async () => {
    await Promise.all(sources.map((source) => source.close()));
  };
  try {
    const entries = await readEntries(folder, sources);
    return { config, tensors: joinTensors(entries, quantization, place), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * All arrays of the folder's files; the single file has precedence over shards, as in transformers. Each file is added
 * to `sources` as soon as it is open.
 */
async function readEntries(
  folder: Folder,
  sources: Source[],
): Promise<ReadonlyMap<string, SafetensorsEntry>> {
  const single = await openFile(folder, SINGLE);
  if (single !== null) {
    sources.push(single);
    return readSafetensors(single);
  }
  const index = await readJson(folder, INDEX);
  if (index === undefined) throw await noWeights(folder);
  const place = `${folder.name}/${INDEX}`;
  const map = asObject(asObject(index, place).weight_map, `${place}: weight_map`);
  const shards = new Map<string, ReadonlyMap<string, SafetensorsEntry>>();
  const entries = new Map<string, SafetensorsEntry>();
  for (const [name, file] of Object.entries(map)) {
    if (typeof file !== "string")
      throw new FormatError(place, `${describe(name)} is in ${describe(file)}`, "a file");
    let shard = shards.get(file);
    if (!shard) {
      const source = await openFile(folder, file);
      if (source === null)
        throw new FormatError(place, `names ${describe(file)}, which is not in the folder`);
      sources.push(source);
      shard = await readSafetensors(source);
      shards.set(file, shard);
    }
    const entry = shard.get(name);
    if (!entry) throw new FormatError(place, `names ${describe(name)}, which is not in ${file}`);
    entries.set(name, entry);
  }
  return entries;
}

async function noWeights(folder: Folder): Promise<Error> {
  for (const file of ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"]) {
    const source = await openFile(folder, file);
    if (source === null) continue;
    await source.close();
    return new UnsupportedError(
      `${folder.name}: PyTorch pickle weights (${file})`,
      "Convert them to safetensors.",
    );
  }
  return new FormatError(folder.name, "config.json without weights", `${SINGLE} or ${INDEX} in its folder`);
}

/** MLX's `quantization` (its copy under the other name counts too); null for plain floats. */
function readQuantization(config: JsonObject, place: string): JsonObject | null {
  const found = config.quantization ?? config.quantization_config ?? null;
  if (found === null) return null;
  const quantization = asObject(found, `${place}: quantization`);
  const method = quantization.quant_method;
  if (method === undefined || config.quantization) return quantization;
  // The arrays themselves show which weights are.
  if (method === "mxfp4") return null;
  const wayOut = "Use the unquantized checkpoint, an MLX one of 4 or 8 bits, or a GGUF file.";
  throw new UnsupportedError(`${place}: quantization by ${describe(method)}`, wayOut);
}

function joinTensors(
  entries: ReadonlyMap<string, SafetensorsEntry>,
  quantization: JsonObject | null,
  place: string,
): Weights {
  const tensors = new Weights();
  for (const [name, entry] of entries) {
    const [, joined, half] = /^(.+)_(blocks|scales)$/.exec(name) ?? [];
    const codes = entries.get(`${joined}_blocks`);
    const powers = entries.get(`${joined}_scales`);
    if (codes?.dtype === "U8" && powers) {
      if (half === "blocks") tensors.set(joined, mxfp4Tensor(joined, codes, powers));
      continue;
    }
    const [, path = "", part] = /^(.+)\.(weight|scales|biases)$/.exec(name) ?? [];
    const weight = entries.get(`${path}.weight`);
    const scales = entries.get(`${path}.scales`);
    const isMlx = quantization !== null && scales !== undefined && weight?.dtype === "U32";
    if (!isMlx) addPlain(tensors, entry);
    else if (part === "weight") {
      const biases = entries.get(`${path}.biases`);
      addMlx(tensors, { weight, scales, biases }, () => mlxType(quantization, path, place));
    }
  }
  return tensors;
}

/** A quantization that we cannot read is an error only when the weight is asked for. */
function addMlx(tensors: Weights, parts: MlxParts, type: () => TensorType): void {
  try {
    tensors.set(parts.weight.name, mlxTensor(parts, type()));
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    tensors.addUnreadable(parts.weight.name, error.thing, error.wayOut);
  }
}

function addPlain(tensors: Weights, entry: SafetensorsEntry): void {
  const { name, dtype, shape, source, offset } = entry;
  if (!Object.hasOwn(PLAIN, dtype) || entry.bytes === 0) {
    tensors.addUnreadable(name, `${source.name}: tensor ${describe(name)} of ${dtype} [${shape}]`);
    return;
  }
  const [cols = 1] = shape.slice(-1);
  const rows = count(shape.slice(0, -1));
  tensors.set(name, rangeTensor(source, { name, type: PLAIN[dtype], rows, cols }, offset));
}
