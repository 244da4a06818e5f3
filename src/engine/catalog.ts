/**
 * A short, dated list of recommended models on the Hub, and the entries whose names are nearest to what a user typed.
 * Anyone can download every entry without an account.
 */

/** Date of the last review of the list. */
export const CATALOG_DATE = "2026-11-28";

/** One model of the catalog of `nibble models`. */
export interface CatalogEntry {
  /** The argument for `load`. */
  readonly name: string;
  /** The name for people. */
  readonly title: string;
  /** A name of `SHAPES`, and the type that it is planned with: the file's, or the nearest one that shapes have. */
  readonly shape: string;
  readonly type: string;
}

const entry = (name: string, title: string, shape: string, type = "q4_k_m"): CatalogEntry => ({
  ...{ name: `hf:${name}`, title, shape, type },
});

/** Smallest first. */
export const CATALOG: readonly CatalogEntry[] = [
  entry("Qwen/Qwen3-0.6B-GGUF:Q8_0", "Qwen 3 0.6B", "qwen-3-0.6b", "q8_0"),
  entry("bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M", "Llama 3.2 1B", "llama-3.2-1b"),
  entry("Qwen/Qwen3-1.7B-GGUF:Q8_0", "Qwen 3 1.7B", "qwen-3-1.7b", "q8_0"),
  entry("bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M", "Llama 3.2 3B", "llama-3.2-3b"),
  entry("Qwen/Qwen3-4B-GGUF:Q4_K_M", "Qwen 3 4B", "qwen-3-4b"),
  entry("unsloth/gemma-4-E2B-it-GGUF:Q4_K_M", "Gemma 4 E2B", "gemma-4-e2b"),
  entry("unsloth/gemma-4-E4B-it-GGUF:Q4_K_M", "Gemma 4 E4B", "gemma-4-e4b"),
  entry("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M", "Llama 3.1 8B", "llama-3.1-8b"),
  entry("Qwen/Qwen3-8B-GGUF:Q4_K_M", "Qwen 3 8B", "qwen-3-8b"),
  entry("unsloth/Qwen3.5-9B-GGUF:Q4_K_M", "Qwen 3.5 9B", "qwen-3.5-9b"),
  entry("bartowski/Mistral-Nemo-Instruct-2407-GGUF:Q4_K_M", "Mistral Nemo 12B", "mistral-nemo-12b"),
  entry("ggml-org/gpt-oss-20b-GGUF", "gpt-oss 20B", "gpt-oss-20b", "q4_0"),
  entry("unsloth/gemma-4-26B-A4B-it-GGUF:Q4_K_M", "Gemma 4 26B-A4B", "gemma-4-26b-a4b"),
  entry("Qwen/Qwen3-30B-A3B-GGUF:Q4_K_M", "Qwen 3 30B-A3B", "qwen-3-30b-a3b"),
  entry("unsloth/Qwen3.5-35B-A3B-GGUF:Q4_K_M", "Qwen 3.5 35B-A3B", "qwen-3.5-35b-a3b"),
  entry("Qwen/Qwen3-32B-GGUF:Q4_K_M", "Qwen 3 32B", "qwen-3-32b"),
  entry("bartowski/Llama-3.3-70B-Instruct-GGUF:Q4_K_M", "Llama 3.3 70B", "llama-3.1-70b"),
];

/**
 * Known names similar to what was typed ("llama3", "qwen3:8b", "Qwen/Qwen3-8B"), the nearest first, three at most; none
 * if nothing is similar.
 */
export function nearestModels(typed: string, entries: readonly CatalogEntry[] = CATALOG): CatalogEntry[] {
  const wanted = plain(typed);
  if (wanted.length < 3) return [];
  const scored = entries.map((entry) => ({
    entry,
    score: Math.max(...[entry.title, entry.shape, entry.name].map((name) => likeness(wanted, plain(name)))),
  }));
  return scored
    .filter(({ score }) => score >= 0.5)
    .sort((a, b) => b.score - a.score)
    .slice(0, 3)
    .map(({ entry }) => entry);
}

const plain = (name: string) =>
  name
    .toLowerCase()
    .replace(/^hf:/, "")
    .replace(/\b(gguf|instruct|it|chat|latest)\b|:q\d\w*/g, "")
    .replace(/[^a-z0-9]/g, "");

/** 1 if one begins with the other; otherwise the share of common pairs of letters (Dice's coefficient). */
function likeness(a: string, b: string): number {
  if (b.startsWith(a) || b.includes(a)) return 1 + a.length / (10 * b.length);
  const pairs = (text: string) => Array.from({ length: text.length - 1 }, (_, i) => text.slice(i, i + 2));
  const left = pairs(a);
  const right = pairs(b);
  let shared = 0;
  for (const pair of left) {
    const at = right.indexOf(pair);
    if (at < 0) continue;
    right.splice(at, 1);
    shared++;
  }
  return (2 * shared) / (left.length + pairs(b).length);
}
