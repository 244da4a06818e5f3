/**
 * Selects the files of a repository that make up the requested model: one GGUF quantization with all its parts, or a
 * safetensors folder. It works on a list of names and sizes from any source. If the choice is not clear, the error
 * lists the candidates.
 */
import { ArgumentError, FormatError, UnsupportedError } from "../errors.ts";
import { ggufPartName } from "../gguf.ts";
import type { HubName } from "./name.ts";

interface Named {
  readonly path: string;
  readonly bytes: number;
}

/** Files to download, and the one that opens the model; `index`: a file that names more files once it is there. */
export interface Picked<File extends Named> {
  readonly files: readonly File[];
  /** The path in the repository that opens the model: a GGUF file (the first part), or "" for the folder. */
  readonly opens: string;
  readonly index: File | null;
}

/**
 * The default order: small and close to the original first, then larger, then worse. We can compute with all of them.
 */
const DEFAULTS = [
  ...["Q4_K_M", "Q4_K_XL", "Q4_K_S", "Q4_K", "Q4_0", "IQ4_NL", "IQ4_XS", "MXFP4", "Q4_1", "Q4_K_L"],
  ...["Q5_K_M", "Q5_K_XL", "Q5_K_S", "Q5_K", "Q5_0", "Q5_1", "Q6_K", "Q6_K_XL", "Q8_0", "Q8_K_XL"],
  ...[
    "Q3_K_L",
    "Q3_K_XL",
    "Q3_K_M",
    "Q3_K_S",
    "Q3_K",
    "NVFP4",
    "BF16",
    "F16",
    "F32",
    "Q2_K",
    "Q2_K_L",
    "Q2_K_XL",
  ],
  ...["IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS"],
];

const QUANT =
  /(?:^|[-._/])((?:UD-)?(?:I?Q\d+(?:_[A-Z0-9]+)*|BF16|FP?16|FP?32|MXFP4(?:_MOE)?|NVFP4|TQ\d_\d))(?=[-./]|$)/gi;
/** GGUF files that are not language models: image encoders, statistics, adapters, vocabularies. */
const OTHER = /(^|[-._/])(mmproj|imatrix|lora|adapter|control[-_]vector|vae|ggml-vocab)([-._]|$)/i;

const MODEL = "model.safetensors";
export const INDEX = "model.safetensors.index.json";
/** Files of a safetensors folder besides its weights, if the repository has them. */
const BESIDE = [
  ...["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"],
  ...["special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json"],
  ...["tokenizer.model", "vocab.json", "merges.txt"],
];

/** Entries shown in an error; a repository may have 50,000 files. */
const MOST_LISTED = 20;

/**
 * Throws ArgumentError "model" if there is no such quantization, or several files of it; UnsupportedError if the
 * repository has no model that we can load; FormatError if parts are missing.
 */
export function pickFiles<File extends Named>(name: HubName, files: readonly File[]): Picked<File> {
  const models = ggufModels(files);
  if (models.length > 0) return pickGguf(name, models);
  if (name.quant !== null && files.some(({ path }) => path === "config.json"))
    throw new ArgumentError("model", name.text, "no quantization: the repository holds safetensors, no GGUF");
  return pickFolder(name, files);
}

/** The shards listed in the index. */
export function pickShards<File extends Named>(
  name: HubName,
  files: readonly File[],
  index: Readonly<Record<string, unknown>>,
): File[] {
  const named = [...new Set(Object.values(index))];
  return named.map((path) => {
    const file = files.find((each) => each.path === path);
    if (!file) throw new FormatError(name.text, `${INDEX} names ${JSON.stringify(path)}, which is not there`);
    return file;
  });
}

interface GgufModel<File> {
  /** As the file spells it, in capitals: "Q4_K_M", "UD-Q4_K_XL"; null: the name has none. */
  readonly quant: string | null;
  /** The parts, in order. */
  readonly parts: readonly File[];
  /** The number of parts according to the file's name. */
  readonly partCount: number;
  readonly bytes: number;
}

function ggufModels<File extends Named>(files: readonly File[]): GgufModel<File>[] {
  const byFirst = new Map<string, File[]>();
  for (const file of files) {
    if (!/\.gguf$/i.test(file.path) || OTHER.test(file.path)) continue;
    const first = ggufPartName(file.path, 0)?.name ?? file.path;
    byFirst.set(first, [...(byFirst.get(first) ?? []), file]);
  }
  return [...byFirst].map(([first, parts]) => ({
    quant: quantOf(first),
    parts: parts.sort((a, b) => (a.path < b.path ? -1 : 1)),
    partCount: ggufPartName(first, 0)?.parts ?? 1,
    bytes: parts.reduce((sum, { bytes }) => sum + bytes, 0),
  }));
}

/** The last one in the path: "Qwen-Q4/x-Q8_0.gguf" is Q8_0. */
function quantOf(path: string): string | null {
  const plain = path.replace(/(-\d{5}-of-\d{5})?\.gguf$/i, "");
  const found = [...plain.matchAll(QUANT)].at(-1)?.[1].toUpperCase() ?? null;
  return found?.replace("FP16", "F16").replace("FP32", "F32") ?? null;
}

function pickGguf<File extends Named>(name: HubName, models: readonly GgufModel<File>[]): Picked<File> {
  const matching = name.quant === null ? byDefault(models) : byWish(models, name.quant);
  if (matching.length === 0)
    throw new ArgumentError("model", name.text, `the quantizations that there are: ${listed(models)}`);
  if (matching.length > 1) {
    const wayOut = `hf:${name.owner}/${name.name}:FILE`;
    throw new ArgumentError(
      "model",
      name.text,
      `one of several files, as ${wayOut}: ${listed(matching, true)}`,
    );
  }
  const { parts, partCount } = matching[0];
  if (parts.length !== partCount)
    throw new FormatError(
      `${name.text}: ${parts[0].path}`,
      `${parts.length} of ${partCount} parts are there`,
    );
  return { files: parts, opens: parts[0].path, index: null };
}

/** The request is a file or a quantization; one with the prefix "UD-" is used if there is none without it. */
function byWish<File extends Named>(models: readonly GgufModel<File>[], wish: string): GgufModel<File>[] {
  const file = models.filter(({ parts }) => parts.some(({ path }) => path === wish));
  if (file.length > 0) return file;
  const quant = wish.toUpperCase();
  const exactly = models.filter((model) => model.quant === quant);
  return exactly.length > 0 ? exactly : models.filter((model) => model.quant === `UD-${quant}`);
}

function byDefault<File extends Named>(models: readonly GgufModel<File>[]): GgufModel<File>[] {
  for (const quant of DEFAULTS) {
    const found = byWish(models, quant);
    if (found.length > 0) return found;
  }
  return [...models];
}

function listed<File extends Named>(models: readonly GgufModel<File>[], paths = false): string {
  const lines = [...models]
    .sort((a, b) => a.bytes - b.bytes)
    .slice(0, MOST_LISTED)
    .map(({ quant, parts, bytes }) => {
      const called = paths || quant === null ? parts[0].path : quant;
      return `${called} (${(bytes / 1e9).toPrecision(3)} GB)`;
    });
  const more = models.length - lines.length;
  return `${lines.join(", ")}${more > 0 ? `, and ${more} more` : ""}`;
}

function pickFolder<File extends Named>(name: HubName, files: readonly File[]): Picked<File> {
  const at = (path: string) => files.find((file) => file.path === path) ?? null;
  const beside = BESIDE.flatMap((path) => at(path) ?? []);
  const weights = at(MODEL);
  const index = weights ? null : at(INDEX);
  if (!at("config.json") || (!weights && !index)) throw noModel(name, files);
  if (!at("tokenizer.json"))
    throw new UnsupportedError(
      `${name.text}: a repository without tokenizer.json`,
      "Look for a GGUF version of the model.",
    );
  return { files: [...beside, ...(weights ? [weights] : [index!])], opens: "", index };
}

function noModel(name: HubName, files: readonly Named[]): UnsupportedError {
  const weights = files.filter(({ path }) =>
    /\.(safetensors|bin|pth?|ckpt|onnx|gguf|msgpack|h5)$/i.test(path),
  );
  const shown = (weights.length > 0 ? weights : files).slice(0, 5).map(({ path }) => path);
  return new UnsupportedError(
    `${name.text}: a repository without a GGUF model or model.safetensors (it holds ${shown.join(", ") || "nothing"})`,
    "Look for a GGUF version of the model.",
  );
}
