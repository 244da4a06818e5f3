/** The golden checkpoints of test/golden/models and what transformers computed for them (test/golden/README.md). */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { Allocation, Graph } from "../../src/device/contract.ts";
import type { Checkpoint } from "../../src/format/checkpoint.ts";
import { fileFolder } from "../../src/format/file-source.ts";
import { openSafetensors } from "../../src/format/safetensors.ts";
import type { Tensor } from "../../src/format/tensor.ts";
import { type Model, openModel } from "../../src/model/model.ts";

export const FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma3"] as const;
/** The second set: smaller, in float32. */
export const LATER = [
  "gemma2",
  "granite",
  "smollm3",
  "olmo2",
  "phi3-longrope",
  "llama-yarn",
  "gemma4-dense",
  "gemma4-e2b",
  "gemma4-moe",
  "qwen3_moe",
  "mixtral",
  "gpt_oss",
] as const;

export interface Expected {
  ids: number[];
  /** Arrays by name: logits [160, vocab], hidden.i [160, hidden]. */
  arrays: Map<string, Float32Array>;
  greedy: number[];
}

function folderOf(family: string): string {
  return fileURLToPath(new URL(`../golden/models/${family}`, import.meta.url));
}

export async function goldenModel(family: string): Promise<Model> {
  const { config, tensors, close } = await openSafetensors(fileFolder(folderOf(family)));
  return openModel(withoutTokenizer({ kind: "safetensors", name: family, metadata: config, tensors, close }));
}

/** The tensor with other numbers. */
export function filled(tensor: Tensor, numbers: (row: number) => number): Tensor {
  const all = Float32Array.from({ length: tensor.rows * tensor.cols }, (_, i) => numbers(i));
  const bytes = new Uint8Array(all.buffer);
  return {
    ...tensor,
    type: "f32",
    readRows: async (first, count, into) => {
      const size = tensor.cols * 4;
      into.set(bytes.subarray(first * size, (first + count) * size));
    },
  };
}

/** The config in the layout from before transformers 5; null: the folder has none. */
export async function oldConfig(family: string): Promise<Record<string, unknown> | null> {
  const text = await readFile(`${folderOf(family)}/config-old.json`, "utf8").catch(() => null);
  return text === null ? null : JSON.parse(text);
}

/** A checkpoint of weights alone, as the golden ones are. */
export function withoutTokenizer(parts: Omit<Checkpoint, "tokenizer" | "chatTemplate">): Checkpoint {
  const none = () => Promise.reject(new Error(`${parts.name} has no tokenizer`));
  return { ...parts, tokenizer: none, chatTemplate: none };
}

export async function expected(family: string): Promise<Expected> {
  const { arrays, integers } = await arraysOf(family, "expected");
  return { ids: integers.get("input_ids")!, greedy: integers.get("greedy_from_48")!, arrays };
}

export async function arraysOf(family: string, file: "expected" | "extra") {
  const bytes = await readFile(`${folderOf(family)}/${file}.safetensors`);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + headerBytes));
  const arrays = new Map<string, Float32Array>();
  const integers = new Map<string, number[]>();
  for (const [name, entry] of Object.entries<{ dtype: string; data_offsets: [number, number] }>(header)) {
    if (name === "__metadata__") continue;
    const [from, to] = entry.data_offsets.map((offset) => 8 + headerBytes + offset);
    const own = bytes.buffer.slice(bytes.byteOffset + from, bytes.byteOffset + to);
    if (entry.dtype === "F32") arrays.set(name, new Float32Array(own));
    else if (entry.dtype === "I64") integers.set(name, Array.from(new BigInt64Array(own), Number));
    else integers.set(name, Array.from(new Int32Array(own)));
  }
  return { arrays, integers };
}

/** A text alone: block n is page n. Windows smaller than the text go around over the pages of a sliding pool. */
export function setAllPages(graph: Graph, allocation: Allocation): void {
  for (const pool of graph.pools)
    allocation.setPages(
      pool,
      0,
      0,
      Uint32Array.from({ length: graph.blocks }, (_, i) => i % pool.pages),
    );
}

/** Largest difference over the standard deviation of what is expected. */
export function relativeError(found: Float32Array, wanted: Float32Array): number {
  const mean = wanted.reduce((a, b) => a + b, 0) / wanted.length;
  const variance = wanted.reduce((a, b) => a + (b - mean) ** 2, 0) / wanted.length;
  let worst = 0;
  for (let i = 0; i < wanted.length; i++) worst = Math.max(worst, Math.abs(found[i] - wanted[i]));
  return worst / Math.sqrt(variance);
}

/** Root mean square of the difference over the deviation of what is expected. */
export function rmsError(found: Float32Array, wanted: Float32Array): number {
  const rms = (values: Float32Array) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
  const mean = wanted.reduce((a, b) => a + b, 0) / wanted.length;
  return rms(found.map((x, i) => x - wanted[i])) / rms(wanted.map((x) => x - mean));
}
