/**
 * Describes a checkpoint without loading its weights: shape, tensors, tokenizer, template, and the KV cache's size in
 * each format. Sizes of the cache are those of a recorded graph in the CPU device's layout. A file of an unknown
 * architecture is described as far as possible, with the reason why no further.
 */
import { readdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { kvCodec } from "../cache/codecs.ts";
import { KV_FORMATS } from "../device/wasm/kv-layout.ts";
import { CPU_CHUNK, layerCacheBytes } from "../device/wasm/program.ts";
import { type FindOptions, openToLook } from "../engine/find-model.ts";
import { tokenizerOf } from "../engine/load-checkpoint.ts";
import type { Checkpoint } from "../format/checkpoint.ts";
import { lookAt } from "../format/file-source.ts";
import { ggufPartName } from "../format/gguf.ts";
import { storedRowBytes, type Tensor, type TensorType } from "../format/tensor.ts";
import type { Tokenizer } from "../format/tokenizer.ts";
import type { ModelConfig } from "../model/config.ts";
import { type Model, openModel } from "../model/model.ts";
import { attempts } from "./attempts.ts";
import { tokenKvBytes } from "./plan/kv-bytes.ts";

/** One tensor of a file. */
export interface TensorSummary {
  readonly name: string;
  readonly type: TensorType;
  readonly rows: number;
  readonly cols: number;
  /** Bytes in the file. */
  readonly bytes: number;
}

/** A tokenizer's kind and size, and the tokens that begin and end texts. */
export interface TokenizerSummary {
  /** The file's name for it: "llama", "gpt2 (llama-bpe)", "tokenizer.json". */
  readonly kind: string;
  readonly vocab: number;
  readonly addBos: boolean;
  readonly bos: { readonly id: number; readonly text: string } | null;
  /** Every token that ends an answer. */
  readonly ends: readonly { readonly id: number; readonly text: string }[];
}

/** The KV cache in one format, in bytes. */
export interface KvSize {
  readonly format: string;
  /** Bytes that each token of context adds in the full layers. */
  readonly fullBytesPerToken: number;
  /** Bytes that each token adds in the sliding layers, until the window is full. */
  readonly slidingBytesPerToken: number;
  /** Bytes allocated for the trained context. */
  readonly trainedContextBytes: number;
}

/** The contents of a checkpoint, without its weights. */
export interface Inspection {
  /** Its path on this disk, or the name of a model on the Hub. */
  readonly path: string;
  readonly kind: Checkpoint["kind"];
  /** Size of the file, of all parts of a split one, or of a folder's .safetensors files. */
  readonly fileBytes: number;
  /** GGUF key-values or config.json, unchanged. */
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly parameters: number;
  /** Largest first. */
  readonly tensors: readonly TensorSummary[];
  /** null: see `problems`. */
  readonly config: ModelConfig | null;
  readonly kv: readonly KvSize[];
  /** Recurrent states of a text at one position; 0: no layer has any. */
  readonly stateBytes: number;
  readonly tokenizer: TokenizerSummary | null;
  /** The chat template's source; null: none. */
  readonly template: string | null;
  /** Why a part is missing, one line each. */
  readonly problems: readonly string[];
  /**
   * Uncertainties about the files that may make answers wrong, as `load` reports them, and known quality problems of
   * their weight types; one line each.
   */
  readonly warnings: readonly string[];
}

/** llama.cpp #22858: rounded without calibration, about q3_k's perplexity at q4_k's size. */
const NVFP4 =
  "Weights are NVFP4: unless the file's publisher trained or calibrated for it, expect the quality of Q3_K; a Q4_K file of " +
  "the same size is usually better.";

/**
 * Describes what `load` takes; a model on the Hub is not downloaded for this. Throws what finding and opening throw.
 */
export async function inspect(
  name: string,
  options: Pick<FindOptions, "offline" | "signal"> = {},
): Promise<Inspection> {
  const { checkpoint, path, bytes } = await openToLook(name, options);
  const { problems, attempt } = attempts();
  try {
    const tensors = [...checkpoint.tensors.values()].map(summary).sort((a, b) => b.bytes - a.bytes);
    const model = await attempt(() => openModel(checkpoint));
    const tokenizer = await attempt(() => (model ? tokenizerOf(model) : checkpoint.tokenizer()));
    const template = await attempt(() => checkpoint.chatTemplate());
    return {
      path: path ?? name,
      kind: checkpoint.kind,
      fileBytes: bytes ?? (await fileBytes(path ?? name)),
      metadata: checkpoint.metadata,
      parameters: tensors.reduce((sum, { rows, cols }) => sum + rows * cols, 0),
      tensors,
      config: model?.config ?? null,
      kv: (model && (await attempt(async () => kvSizes(model)))) ?? [],
      stateBytes: (model && (await attempt(async () => stateBytes(model)))) ?? 0,
      tokenizer: tokenizer && tokenizerSummary(checkpoint, tokenizer),
      template: template?.source ?? null,
      problems,
      warnings: [
        ...(tokenizer?.warnings ?? []),
        ...(template?.warnings ?? []),
        ...(tensors.some(({ type }) => type === "nvfp4") ? [NVFP4] : []),
      ],
    };
  } finally {
    await checkpoint.close();
  }
}

function kvSizes(model: Model): KvSize[] {
  const context = model.config.trainedContext;
  return KV_FORMATS.map((format) => {
    // The chunk is part of a sliding layer's size: the same as in `load` for the CPU.
    const maxTokens = Math.min(CPU_CHUNK, context);
    const graph = model.record({
      context,
      maxTokens,
      maxOutputs: 1,
      codec: kvCodec(format),
      oneVector: true,
    });
    const perToken = (sliding: boolean) =>
      graph.caches
        .filter(({ pool }) => (pool.window !== null) === sliding)
        .reduce((sum, cache) => sum + tokenKvBytes(cache, format), 0);
    return {
      format,
      fullBytesPerToken: perToken(false),
      slidingBytesPerToken: perToken(true),
      trainedContextBytes: graph.caches.reduce((sum, cache) => sum + layerCacheBytes(graph, cache), 0),
    };
  });
}

function stateBytes(model: Model): number {
  const graph = model.record({ context: 1, maxTokens: 1, maxOutputs: 1, codec: kvCodec("f32") });
  return graph.states.reduce((sum, { values }) => sum + values * 4, 0);
}

function summary({ name, type, rows, cols }: Tensor): TensorSummary {
  return { name, type, rows, cols, bytes: rows * storedRowBytes(type, cols) };
}

function tokenizerSummary(checkpoint: Checkpoint, tokenizer: Tokenizer): TokenizerSummary {
  const named = (id: number) => ({ id, text: tokenizer.decode([id], { special: true }) });
  const text = (key: string) => {
    const value = checkpoint.metadata[`tokenizer.ggml.${key}`];
    return typeof value === "string" ? value : null;
  };
  const pre = text("pre");
  return {
    kind: checkpoint.kind === "safetensors" ? "tokenizer.json" : `${text("model")}${pre ? ` (${pre})` : ""}`,
    vocab: tokenizer.vocab,
    addBos: tokenizer.addBos,
    bos: tokenizer.bosId === null ? null : named(tokenizer.bosId),
    ends: [...tokenizer.endIds].sort((a, b) => a - b).map(named),
  };
}

async function fileBytes(path: string): Promise<number> {
  const found = await lookAt(path);
  const folder = found?.isDirectory() ? path : dirname(path);
  const files = found?.isDirectory()
    ? (await readdir(path)).filter((file) => file.endsWith(".safetensors"))
    : partFiles(basename(path));
  const sizes = await Promise.all(files.map(async (file) => (await lookAt(join(folder, file)))?.size ?? 0));
  return sizes.reduce((a, b) => a + b, 0);
}

/** The file itself, or all parts of the split GGUF that it belongs to. */
function partFiles(file: string): string[] {
  const parts = ggufPartName(file, 0)?.parts ?? 1;
  return parts === 1 ? [file] : Array.from({ length: parts }, (_, part) => ggufPartName(file, part)!.name);
}
