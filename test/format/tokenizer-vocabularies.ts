/** The golden vocabularies: tokenizers from real GGUF files, each made once in a test file, and small ones by hand. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { readGguf } from "../../src/format/gguf.ts";
import type { Tokenizer } from "../../src/format/tokenizer.ts";
import { tokenizerFromGguf } from "../../src/format/tokenizer-gguf.ts";
import type { GgufMetadata } from "../../src/format/tokenizer-metadata.ts";

export const VOCABULARIES = ["gpt-2", "llama-bpe", "llama-spm", "qwen2", "gemma-4"] as const;
export type VocabularyName = (typeof VOCABULARIES)[number];

const folder = new URL("../golden/vocab/", import.meta.url);
const needle = new URL("../../models/needle-14m/needle-14m-Q8_0.gguf", import.meta.url);

export function goldenText(name: string): string {
  return readFileSync(new URL(name, folder), "utf8");
}

async function metadataAt(file: URL): Promise<GgufMetadata> {
  const bytes = readFileSync(file);
  const plain = file.pathname.endsWith(".gz") ? gunzipSync(bytes) : bytes;
  const { metadata, close } = await readGguf(bufferSource(file.pathname, plain));
  await close();
  return metadata;
}

const metadata = new Map<string, Promise<GgufMetadata>>();
const tokenizers = new Map<string, Promise<Tokenizer>>();

function remembered<Value>(known: Map<string, Promise<Value>>, name: string, make: () => Promise<Value>) {
  if (!known.has(name)) known.set(name, make());
  return known.get(name)!;
}

/** The metadata of a golden vocabulary, or of needle-14m. */
export function goldenMetadata(name: VocabularyName | "needle"): Promise<GgufMetadata> {
  const file = name === "needle" ? needle : new URL(`ggml-vocab-${name}.gguf.gz`, folder);
  return remembered(metadata, name, () => metadataAt(file));
}

export function goldenTokenizer(name: VocabularyName | "needle"): Promise<Tokenizer> {
  return remembered(tokenizers, name, async () => tokenizerFromGguf(await goldenMetadata(name)));
}

/** Needle's vocabulary with more control tokens behind it, of which the last is its eos. */
export async function needleWith(controls: readonly string[]): Promise<Tokenizer> {
  const metadata = await goldenMetadata("needle");
  const [tokens, types, scores] = ["tokens", "token_type", "scores"].map((key) => {
    const values = metadata[`tokenizer.ggml.${key}`];
    return values === undefined ? undefined : [...(values as Iterable<unknown>)];
  });
  const more = controls.filter((text) => !tokens!.includes(text));
  return tokenizerFromGguf({
    ...metadata,
    "tokenizer.ggml.eos_token_id": tokens!.length + more.length - 1,
    "tokenizer.ggml.tokens": [...tokens!, ...more],
    "tokenizer.ggml.token_type": [...types!, ...more.map(() => 3)],
    ...(scores ? { "tokenizer.ggml.scores": [...scores, ...more.map(() => 0)] } : {}),
  } as GgufMetadata);
}

/** GGUF metadata of a tiny SentencePiece vocabulary: <unk> <s> </s>, the 256 bytes, then `pieces` (best first). */
export function tinySentencePiece(
  pieces: string[],
  more: Record<string, unknown> = {},
): Record<string, unknown> {
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const tokens = ["<unk>", "<s>", "</s>", ...bytes, ...pieces];
  return {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.scores": tokens.map((_, id) => -id),
    "tokenizer.ggml.token_type": tokens.map((_, id) => (id === 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : 1)),
    ...more,
  };
}
