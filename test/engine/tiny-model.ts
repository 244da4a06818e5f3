/**
 * A two-layer llama in a GGUF file of a few hundred kilobytes, right or wrong in one chosen way, and what of the
 * process a test may count: open files and threads.
 */
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { random, randomBytes } from "../device/random-tensor.ts";
import { tinySentencePiece } from "../format/tokenizer-vocabularies.ts";
import { type KeyValue, T, type WrittenTensor, writeGguf } from "../format/write-gguf.ts";

export interface TinyModel {
  /** Rows of the embedding and the output; default: as many as the tokenizer has ids. */
  rows?: number;
  /** Pieces of the tokenizer beyond its 259 control and byte tokens: letters from "a" (id 259) on. */
  pieces?: number;
  /** A last word on the tensors: leave out, replace. */
  tensors?: (tensors: WrittenTensor[]) => WrittenTensor[];
  keys?: (keys: KeyValue[]) => KeyValue[];
}

const HIDDEN = 64;
const FFN = 96;
const LAYERS = 2;
const CONTEXT = 128;

export function tinyModel(options: TinyModel = {}): Uint8Array {
  const { pieces = 5, rows = 259 + pieces, tensors = (all) => all, keys = (all) => all } = options;
  const vocabulary = tinySentencePiece(Array.from({ length: pieces }, (_, i) => String.fromCharCode(97 + i)));
  const list = (key: string) => vocabulary[`tokenizer.ggml.${key}`] as unknown[];
  const number = (key: string, value: number): KeyValue => [`llama.${key}`, T.u32, value];
  const all: KeyValue[] = [
    ["general.architecture", T.string, "llama"],
    number("context_length", CONTEXT),
    number("embedding_length", HIDDEN),
    number("block_count", LAYERS),
    number("feed_forward_length", FFN),
    number("attention.head_count", 2),
    number("attention.head_count_kv", 1),
    ["llama.attention.layer_norm_rms_epsilon", T.f32, 1e-5],
    ["tokenizer.ggml.model", T.string, "llama"],
    ["tokenizer.ggml.tokens", T.array, { type: T.string, items: list("tokens") }],
    ["tokenizer.ggml.scores", T.array, { type: T.f32, items: list("scores") }],
    ["tokenizer.ggml.token_type", T.array, { type: T.i32, items: list("token_type") }],
  ];
  return writeGguf({ keys: keys(all), tensors: tensors(tensorsOf(rows)) });
}

function tensorsOf(vocab: number): WrittenTensor[] {
  let seed = 1;
  const q8 = (name: string, rows: number, cols: number): WrittenTensor => {
    return { name, dims: [cols, rows], type: 8, data: randomBytes("q8_0", rows, cols, seed++) };
  };
  const norm = (name: string): WrittenTensor => {
    const next = random(seed++);
    const values = Float32Array.from({ length: HIDDEN }, () => 0.5 + next());
    return { name, dims: [HIDDEN], type: 0, data: new Uint8Array(values.buffer) };
  };
  const layers = Array.from({ length: LAYERS }, (_, i) => [
    norm(`blk.${i}.attn_norm.weight`),
    q8(`blk.${i}.attn_q.weight`, HIDDEN, HIDDEN),
    q8(`blk.${i}.attn_k.weight`, HIDDEN / 2, HIDDEN),
    q8(`blk.${i}.attn_v.weight`, HIDDEN / 2, HIDDEN),
    q8(`blk.${i}.attn_output.weight`, HIDDEN, HIDDEN),
    norm(`blk.${i}.ffn_norm.weight`),
    q8(`blk.${i}.ffn_gate.weight`, FFN, HIDDEN),
    q8(`blk.${i}.ffn_up.weight`, FFN, HIDDEN),
    q8(`blk.${i}.ffn_down.weight`, HIDDEN, FFN),
  ]);
  return [
    q8("token_embd.weight", vocab, HIDDEN),
    ...layers.flat(),
    norm("output_norm.weight"),
    q8("output.weight", vocab, HIDDEN),
  ];
}

/** Whether this system tells what a process has open (Linux). */
export const TELLS_RESOURCES = existsSync("/proc/self/fd") && existsSync("/proc/self/task");

/** How often this process has a file open. */
export function openFiles(path: string): number {
  const links = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return "";
    }
  });
  return links.filter((link) => link === path).length;
}

export function threads(): number {
  return readdirSync("/proc/self/task").length;
}
