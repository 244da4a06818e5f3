/**
 * Converts a folder's tokenizer into GGUF keys (`tokenizer.ggml.*`). GGUF has only names for pre-tokenizers, so the
 * name is found by trying: the known names are tried in turn, and the first one that gives the folder's own ids for a
 * probe text in many scripts is written. If none does, it is an error, not a guess. Key names:
 * github.com/ggml-org/ggml/blob/master/docs/gguf.md, "Tokenizer".
 */
import { FormatError, UnsupportedError } from "./errors.ts";
import { type Folder, readJson } from "./folder.ts";
import type { GgufValue } from "./gguf-write.ts";
import { asObject, type JsonObject } from "./json.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { byteOfToken } from "./tokenizer-bytes.ts";
import { specialText } from "./tokenizer-folder.ts";
import { tokenizerFromGguf } from "./tokenizer-gguf.ts";
import { TOKEN_TYPE } from "./tokenizer-metadata.ts";

type Keys = Map<string, GgufValue>;

const PLACE = "tokenizer.json";

/** Pre-tokenizers, the most common first; of several names for one, the plainest. */
const WAYS = [
  ...["llama-bpe", "qwen2", "qwen35", "gpt-4o", "tekken", "deepseek-v3", "smollm", "gpt-2", "smaug-bpe"],
];

/**
 * Words, digits, contractions, runs of punctuation and spaces, lines, scripts, emoji: text on which pre-tokenizers
 * differ. In NFC: GGUFs do not normalize.
 */
const PROBE = `Hello, World! I'm here; they'LL say we've 3 or 33, 333, 3333 and 1234567.89 (x**2 != y_3)...
\tTabs\t\tand   spaces  \n\n\n  A new line\r\nand \u00a0another\u3000one. https://example.org/a/b?c=d&e=f
camelCaseWORDS HTTPServer'S ÀÉÎõü ß Straße naïve cafe\u0301 Привет, мир! Γειά σου Κόσμε
你好,世界。こんにちは世界 한국어 텍스트 שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดีชาวโลก ١٢٣ ४५६
🙂👩‍👩‍👧🇩🇪 --- ### \`\`\`js\nconst a = [1, 2];\n\`\`\` $x^{2}$ 'quoted' "double" don't DON'T   \n `;

/**
 * The keys of `folder`'s tokenizer for a model with `vocab` rows; `own`: the tokenizer that they must reproduce. Throws
 * FormatError if it is damaged, UnsupportedError if GGUF cannot express it.
 */
export async function tokenizerKeys(folder: Folder, own: Tokenizer, vocab: number): Promise<Keys> {
  const json = asObject(await readJson(folder, PLACE), PLACE);
  const config = asObject((await readJson(folder, "tokenizer_config.json")) ?? {}, "tokenizer_config.json");
  const special = asObject(
    (await readJson(folder, "special_tokens_map.json")) ?? {},
    "special_tokens_map.json",
  );
  const model = asObject(json.model, `${PLACE}: model`);
  const tokens = tokensOf(json, model, vocab);
  const keys: Keys = new Map([
    ["tokenizer.ggml.tokens", { strings: tokens.texts }],
    ["tokenizer.ggml.token_type", { i32s: tokens.types }],
  ]);
  const named = (name: string) => {
    const text =
      specialText(config[`${name}_token`], `tokenizer_config.json: ${name}_token`) ??
      specialText(special[`${name}_token`], `special_tokens_map.json: ${name}_token`);
    const id = text === null ? -1 : tokens.texts.indexOf(text);
    return id < 0 ? null : id;
  };
  const bos = own.bosId ?? named("bos");
  if (bos !== null) keys.set("tokenizer.ggml.bos_token_id", { u32: bos });
  keys.set("tokenizer.ggml.add_bos_token", { bool: own.addBos });
  ends(keys, own, named("eos"));
  for (const [name, key] of [
    ["unk", "unknown"],
    ["pad", "padding"],
  ]) {
    const id = named(name);
    if (id !== null) keys.set(`tokenizer.ggml.${key}_token_id`, { u32: id });
  }
  for (const way of waysOf(json, model, tokens)) {
    const tried: Keys = new Map([...keys, ...way]);
    if (await isSame(own, tried)) return tried;
  }
  throw new UnsupportedError(
    `the pre-tokenizer of ${folder.name}/${PLACE} in a GGUF`,
    "None that GGUF has a name for gives the same tokens.",
  );
}

interface Tokens {
  readonly texts: string[];
  readonly types: number[];
  readonly merges: string[];
}

function tokensOf(json: JsonObject, model: JsonObject, vocab: number): Tokens {
  const texts = Array.from({ length: vocab }, (_, id) => `[PAD${id}]`);
  const types: number[] = new Array(vocab).fill(TOKEN_TYPE.unused);
  const put = (id: unknown, text: string, type: number) => {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= vocab)
      throw new FormatError(PLACE, `token ${JSON.stringify(text)} has id ${id}`, `0 to ${vocab - 1}`);
    texts[id as number] = text;
    types[id as number] = type;
  };
  for (const [text, id] of Object.entries(asObject(model.vocab, `${PLACE}: model.vocab`))) {
    const isByte = model.byte_fallback === true && byteOfToken(text) >= 0;
    put(id, text, isByte ? TOKEN_TYPE.byte : TOKEN_TYPE.normal);
  }
  for (const entry of (json.added_tokens as unknown[] | undefined) ?? []) {
    const { id, content, special } = asObject(entry, `${PLACE}: added_tokens`);
    put(id, String(content), special === true ? TOKEN_TYPE.control : TOKEN_TYPE.added);
  }
  const merges = (model.merges as (string | string[])[]).map((merge) =>
    typeof merge === "string" ? merge : merge.join(" "),
  );
  return { texts, types, merges };
}

/** The tokens that end an answer: one, and two more if the folder has them. */
function ends(keys: Keys, own: Tokenizer, named: number | null): void {
  const all = [...own.endIds].sort((a, b) => a - b);
  const eos = named !== null && own.endIds.has(named) ? named : all[0];
  if (eos === undefined) return;
  const [eot, eom] = all.filter((id) => id !== eos);
  for (const [name, id] of Object.entries({ eos, eot, eom }))
    if (id !== undefined) keys.set(`tokenizer.ggml.${name}_token_id`, { u32: id });
}

/** The candidates that fit the file. */
function* waysOf(json: JsonObject, model: JsonObject, tokens: Tokens): Generator<Keys> {
  const merges: GgufValue = { strings: tokens.merges };
  if (JSON.stringify([json.pre_tokenizer ?? null, json.decoder ?? null]).includes('"ByteLevel"')) {
    for (const pre of WAYS)
      yield new Map<string, GgufValue>([
        ["tokenizer.ggml.model", { string: "gpt2" }],
        ["tokenizer.ggml.pre", { string: pre }],
        ["tokenizer.ggml.merges", merges],
      ]);
    return;
  }
  const { scores, apart } = scoresOf(model, tokens);
  for (const prefix of [true, false]) {
    const common: [string, GgufValue][] = [["tokenizer.ggml.add_space_prefix", { bool: prefix }]];
    // Both need scores in llama.cpp's loader.
    if (!apart)
      yield new Map([
        ...common,
        ["tokenizer.ggml.model", { string: "llama" }],
        ["tokenizer.ggml.pre", { string: "default" }],
        ["tokenizer.ggml.scores", { f32s: scores }],
      ]);
    yield new Map([
      ...common,
      ["tokenizer.ggml.model", { string: "gemma4" }],
      ["tokenizer.ggml.scores", { f32s: scores }],
      ["tokenizer.ggml.merges", merges],
    ]);
  }
}

/**
 * SentencePiece merges the pair whose piece has the highest score: here, minus the rank of the first merge that makes
 * it. `apart`: the merges of one piece are not consecutive, so scores cannot express their order.
 */
function scoresOf(model: JsonObject, { texts, merges }: Tokens): { scores: Float32Array; apart: boolean } {
  const ids = new Map(Object.entries(model.vocab as Record<string, number>));
  const scores = new Float32Array(texts.length).fill(-merges.length - 1);
  const ranked = new Set<number>();
  let last = -1;
  let apart = false;
  for (let rank = 0; rank < merges.length; rank++) {
    const at = merges[rank].indexOf(" ", 1);
    const id = ids.get(merges[rank].slice(0, at) + merges[rank].slice(at + 1));
    if (id === undefined) continue;
    if (ranked.has(id)) apart ||= id !== last;
    else scores[id] = -rank;
    ranked.add(id);
    last = id;
  }
  return { scores, apart };
}

async function isSame(own: Tokenizer, keys: Keys): Promise<boolean> {
  const values = Object.fromEntries([...keys].map(([key, value]) => [key, Object.values(value)[0]]));
  const other = await tokenizerFromGguf(values).catch((error) => {
    if (error instanceof UnsupportedError) return null;
    throw error;
  });
  if (!other) return false;
  const probe = PROBE.normalize("NFC");
  const texts = [probe, ...probe.split("\n"), probe.replaceAll("\n", " ")];
  return texts.every((text) => {
    const [a, b] = [own.encode(text), other.encode(text)];
    return a.length === b.length && a.every((id, i) => id === b[i]);
  });
}
