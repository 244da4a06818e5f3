/**
 * Embeddings of texts: last hidden states, pooled as the model's file says. Only models made for it are accepted: a
 * model trained to continue text has such states, too, but similar texts need not have similar vectors, so it is
 * refused unless its file or the caller sets a pooling.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { ArgumentError, FormatError, UnsupportedError } from "../format/errors.ts";
import { describe, type JsonObject } from "../format/json.ts";

/** last: the last token's; mean: the mean of all tokens; cls: the first token's. */
export type Pooling = "last" | "mean" | "cls";
/** The ways in which the vectors of a text's tokens become one vector. */
export const POOLINGS: readonly Pooling[] = ["last", "mean", "cls"];

/** A file's settings for embeddings. */
export interface EmbeddingFacts {
  /** null: none, so the model is not made for embeddings. */
  readonly pooling: Pooling | null;
  /** Each text ends with this id. */
  readonly endId: number | null;
}

/** Options of `LanguageModel.embed`. */
export interface EmbedOptions {
  /** Overrides the file's, or replaces a missing one. */
  pooling?: Pooling;
  /** Only the first N values, for models whose makers allow it (Matryoshka); the length is normalized to 1 again. */
  dimensions?: number;
  /** false: vectors are not normalized. Default: length 1. */
  normalize?: boolean;
  signal?: AbortSignal;
}

export const EMBED_OPTIONS: readonly (keyof EmbedOptions)[] = [
  "pooling",
  "dimensions",
  "normalize",
  "signal",
];

/** Vectors of texts, and how many tokens were read for them. */
export interface Embeddings {
  /** One for each text, in order. */
  readonly vectors: readonly Float32Array[];
  /** Tokens read, of all texts. */
  readonly tokens: number;
  readonly pooling: Pooling;
}

/** llama.h, enum llama_pooling_type. */
const GGUF_POOLING: Readonly<Record<number, Pooling | "none" | "rank">> = {
  ...{ 0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank" },
};

/** Throws FormatError for an unknown kind of pooling; UnsupportedError for a reranker. */
export async function embeddingFacts(checkpoint: Checkpoint): Promise<EmbeddingFacts> {
  return checkpoint.kind === "gguf" ? fromGguf(checkpoint) : fromFolder(checkpoint);
}

function fromGguf({ metadata, name }: Checkpoint): EmbeddingFacts {
  const key = `${metadata["general.architecture"]}.pooling_type`;
  const found = metadata[key];
  if (found === undefined) return { pooling: null, endId: null };
  const pooling = typeof found === "number" ? GGUF_POOLING[found] : undefined;
  if (pooling === undefined) throw new FormatError(`${name}: ${key}`, describe(found), "0 to 4");
  if (pooling === "rank" || pooling === "none") return { pooling: null, endId: null };
  const eos = metadata["tokenizer.ggml.eos_token_id"];
  const ends = metadata["tokenizer.ggml.add_eos_token"] === true && typeof eos === "number";
  return { pooling, endId: ends ? eos : null };
}

/** Reads the files that sentence-transformers writes. */
async function fromFolder({ folder }: Checkpoint): Promise<EmbeddingFacts> {
  const read = async (path: string): Promise<JsonObject | null> => {
    const source = (await folder?.open(path)) ?? null;
    if (source === null) return null;
    try {
      const bytes = new Uint8Array(source.size);
      await source.read(0, bytes);
      return JSON.parse(new TextDecoder().decode(bytes)) as JsonObject;
    } catch (cause) {
      throw new FormatError(`${folder!.name}/${path}`, "no JSON", undefined, { cause });
    } finally {
      await source.close();
    }
  };
  const modes = await read("1_Pooling/config.json");
  if (modes === null) return { pooling: null, endId: null };
  const on = (mode: string) => modes[`pooling_mode_${mode}`] === true;
  const pooling = on("lasttoken") ? "last" : on("mean_tokens") ? "mean" : on("cls_token") ? "cls" : null;
  if (pooling === null)
    throw new UnsupportedError(
      `the pooling of ${folder!.name}/1_Pooling/config.json`,
      "Supported: last, mean and cls.",
    );
  return { pooling, endId: endOf(await read("tokenizer.json")) };
}

/** The token that a template of tokenizer.json appends to each text. */
function endOf(tokenizer: JsonObject | null): number | null {
  const find = (part: JsonObject | null | undefined): number | null => {
    if (part?.type === "Sequence" && Array.isArray(part.processors))
      return part.processors.map(find).find((id) => id !== null) ?? null;
    const last = Array.isArray(part?.single) ? (part.single.at(-1) as JsonObject) : null;
    const name = (last?.SpecialToken as JsonObject | undefined)?.id;
    const ids = ((part?.special_tokens as JsonObject | undefined)?.[`${name}`] as JsonObject | undefined)
      ?.ids;
    return Array.isArray(ids) && Number.isInteger(ids[0]) ? ids[0] : null;
  };
  return find(tokenizer?.post_processor as JsonObject | undefined);
}

/**
 * The pooling to use. Throws UnsupportedError for a model that is not made for embeddings, unless the caller sets one.
 */
export function poolingOf({ pooling }: EmbeddingFacts, { pooling: asked }: EmbedOptions): Pooling {
  if (asked !== undefined && !POOLINGS.includes(asked))
    throw new ArgumentError("pooling", asked, POOLINGS.join(", "));
  const found = asked ?? pooling;
  if (found !== null) return found;
  throw new UnsupportedError(
    "embedding with a model whose file names no pooling (it is trained to continue text, and texts with the same meaning may have very different vectors)",
    'Use a model that is made for it, such as hf:Qwen/Qwen3-Embedding-0.6B-GGUF, or set { pooling: "last" } or "mean" (--pooling).',
  );
}

/** Sums states, and returns the vector. */
export class StatePooling {
  readonly #sum: Float64Array;
  #count = 0;

  constructor(size: number) {
    this.#sum = new Float64Array(size);
  }

  add(state: Float32Array): void {
    for (let i = 0; i < state.length; i++) this.#sum[i] += state[i];
    this.#count++;
  }

  /** Their mean, of the first `dimensions` values. */
  vector({ dimensions = this.#sum.length, normalize = true }: EmbedOptions): Float32Array {
    const mean = Float32Array.from(this.#sum.subarray(0, dimensions), (sum) => sum / this.#count);
    if (!normalize) return mean;
    const length = Math.sqrt(mean.reduce((squares, x) => squares + x * x, 0));
    return length > 0 ? mean.map((x) => x / length) : mean;
  }
}
