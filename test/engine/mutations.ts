/**
 * Small whole models with some values changed: numbers to extremes, things to other types, to null, to nothing; GGUF and
 * folders. And what becomes of them: each either loads and generates, or fails with one typed error that reads well,
 * within bounded time and memory. A number names a case, so that one can be run again (bench/mutate.ts).
 */
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { loadEngineModel } from "../../src/engine/load-checkpoint.ts";
import { bufferSource } from "../../src/format/buffer-source.ts";
import type { Checkpoint } from "../../src/format/checkpoint.ts";
import { ggufCheckpoint, safetensorsCheckpoint } from "../../src/format/checkpoints.ts";
import { NibbleError } from "../../src/format/errors.ts";
import type { Shape } from "../../src/model/shapes.ts";
import { syntheticCheckpoint } from "../../src/model/synthetic.ts";
import { f32Rows } from "../../src/model/tensors.ts";
import { memoryFolder } from "../format/memory-folder.ts";
import { typedKey } from "../format/rewrite-gguf.ts";
import { tinySentencePiece } from "../format/tokenizer-vocabularies.ts";
import { type KeyValue, T, type WrittenTensor, writeGguf } from "../format/write-gguf.ts";
import { withHeader } from "../format/write-safetensors.ts";

export const KINDS = ["gguf", "gguf bytes", "config.json", "tokenizer.json", "safetensors header"] as const;
export type Kind = (typeof KINDS)[number];

const FAMILIES = ["llama", "qwen2", "gemma3"] as const;
/** As GGUF alone: layers that differ and share caches, inputs of layers, experts, sinks. */
const MIXED = ["gemma4", "gpt-oss"] as const;

const expertKeys = { expert_count: 3, expert_used_count: 2, expert_feed_forward_length: 32 };
const OWN: Readonly<Record<string, Partial<Shape>>> = {
  gemma3: { window: 8 },
  gemma4: {
    ...{ layers: 4, headDim: 32, window: 8, ropeScaling: { turning: 4 } },
    keys: {
      ...expertKeys,
      ...{ "attention.key_length_swa": 16, "attention.value_length_swa": 16 },
      ...{ "attention.head_count_kv": [1, 2, 1, 2], "attention.shared_kv_layers": 2 },
      ...{ "attention.sliding_window_pattern": [true, false, true, false] },
      ...{ embedding_length_per_layer_input: 16, final_logit_softcapping: 30 },
    },
    present: () => [0, 1, 2, 3].flatMap((i) => [`blk.${i}.attn_v.weight`, `blk.${i}.ffn_gate_inp.weight`]),
  },
  "gpt-oss": {
    window: 8,
    keys: { ...expertKeys, "rope.scaling.type": "yarn", "rope.scaling.original_context_length": 16 },
    present: () =>
      ["attn_q", "attn_k", "attn_v", "ffn_gate_inp", "ffn_gate_exps"].map((name) => `blk.0.${name}.bias`),
  },
};

interface Model {
  keys: KeyValue[];
  tensors: WrittenTensor[];
  /** As a folder's files. */
  config: Record<string, unknown>;
  header: Record<string, unknown>;
  data: Uint8Array;
}

const models = new Map<string, Model>();

/** Two layers, 263 tokens: bytes and a few letters. */
export async function prepare(): Promise<void> {
  for (const family of [...FAMILIES, ...MIXED]) {
    const shape: Shape = {
      ...{ family, layers: 2, hidden: 32, heads: 2, kvHeads: 1, headDim: 16, ffn: 32, vocab: 263 },
      ...{ trainedContext: 64, normEpsilon: 1e-5, ropeBase: 10_000, tied: family !== "llama" },
      ...OWN[family],
    };
    const checkpoint = await syntheticCheckpoint(shape, { type: "f16" });
    const vocabulary = tinySentencePiece(["a", "b", "c", "d"]);
    const keys = Object.entries({ ...checkpoint.metadata, ...vocabulary }).map(([key, value]) =>
      typedKey(key, value),
    );
    keys.push([`${family}.rope.scaling.factor`, T.f32, 2], [`${family}.rope.freq_base_swa`, T.f32, 100]);
    if (family === "gemma3")
      keys.push(["gemma3.attention.sliding_window_pattern", T.array, { type: T.bool, items: [1, 0] }]);
    const tensors: WrittenTensor[] = [];
    for (const { name, rows, cols, ...tensor } of checkpoint.tensors.values()) {
      const data = new Uint8Array((await f32Rows({ name, rows, cols, ...tensor }, 0, rows)).buffer);
      tensors.push({ name, dims: rows === 1 ? [cols] : [cols, rows], type: 0, data });
    }
    const none = { config: {}, header: {}, data: new Uint8Array() };
    const isFolder = FAMILIES.includes(family as (typeof FAMILIES)[number]);
    models.set(family, { keys, tensors, ...(isFolder ? folderOf(family, tensors) : none) });
  }
}

const FOLDER_NAMES: Record<string, string> = {
  ...{ token_embd: "embed_tokens", output_norm: "norm", attn_norm: "input_layernorm" },
  ...{ attn_q: "self_attn.q_proj", attn_k: "self_attn.k_proj", attn_v: "self_attn.v_proj" },
  ...{ attn_q_norm: "self_attn.q_norm", attn_k_norm: "self_attn.k_norm", attn_output: "self_attn.o_proj" },
  ...{ ffn_gate: "mlp.gate_proj", ffn_up: "mlp.up_proj", ffn_down: "mlp.down_proj" },
  post_ffw_norm: "post_feedforward_layernorm",
};

function folderOf(
  family: string,
  tensors: readonly WrittenTensor[],
): Pick<Model, "config" | "header" | "data"> {
  const gemma = family === "gemma3";
  const header: Record<string, unknown> = {};
  let end = 0;
  for (const { name, dims, data } of tensors) {
    const [, layer, part, kind] = /^(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)$/.exec(name)!;
    const norms = { ffn_norm: gemma ? "pre_feedforward_layernorm" : "post_attention_layernorm" };
    const names: Record<string, string> = {
      ...FOLDER_NAMES,
      ...norms,
      post_attention_norm: "post_attention_layernorm",
    };
    const own = part === "output" ? "lm_head" : `model.${layer ? `layers.${layer}.` : ""}${names[part]}`;
    const shape = [...dims].reverse();
    header[`${own}.${kind}`] = { dtype: "F32", shape, data_offsets: [end, end + data!.length] };
    end += data!.length;
  }
  const config = {
    ...{
      model_type: gemma ? "gemma3_text" : family,
      vocab_size: 263,
      hidden_size: 32,
      intermediate_size: 32,
    },
    ...{ num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 16 },
    ...{
      max_position_embeddings: 64,
      rms_norm_eps: 1e-5,
      rope_theta: 10_000,
      tie_word_embeddings: family !== "llama",
    },
    ...{ sliding_window: 8, use_sliding_window: false, max_window_layers: 1, layer_types: null },
    ...{ rope_scaling: { rope_type: "linear", factor: 2 }, eos_token_id: [2], torch_dtype: "float32" },
    ...(gemma && { query_pre_attn_scalar: 16, rope_local_base_freq: 100, sliding_window_pattern: 2 }),
    ...(gemma && { rope_parameters: { full_attention: { rope_type: "default", rope_theta: 500 } } }),
  };
  const data = new Uint8Array(Buffer.concat(tensors.map((tensor) => tensor.data!)));
  return { config, header, data };
}

function tokenizerJson(): Record<string, unknown> {
  const tokens = tinySentencePiece(["a", "b", "c", "ab"])["tokenizer.ggml.tokens"] as string[];
  const special = ["<unk>", "<s>", "</s>"].map((content, id) => ({
    id,
    content,
    special: true,
    lstrip: false,
    rstrip: false,
  }));
  return {
    version: "1.0",
    added_tokens: special,
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    },
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      type: "BPE",
      unk_token: "<unk>",
      byte_fallback: true,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((text, id) => [text, id])),
      merges: ["a b"],
    },
  };
}

/** xorshift32, started by the case's number. */
class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 2654435761) | 1;
    for (let i = 0; i < 4; i++) this.next();
  }
  /** In [0, 1). */
  next(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) / 2 ** 32;
  }
  below(count: number): number {
    return Math.floor(this.next() * count);
  }
  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)];
  }
}

/** In JSON, where no number is infinite, but 1e999 is read as one. */
const RAW = /"@raw:([^"]*)"/g;

const EXTREMES = [
  ...[0, 1, 2, 3, 5, 7, 16, 17, 255, 1023, 1024, 1025, 65_535, 0.5, 1.5, -0, -1, -1.5, 1e-300, 1e-7],
  ...[2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40, 2 ** 53 - 1, 2 ** 53, 2 ** 63, 1e8, 1e16, 1e300],
];

function number(random: Random, from: unknown): number {
  if (typeof from === "number" && random.next() < 0.3)
    return random.pick([from + 1, from - 1, -from, from * 2, from / 2, from + 0.5]);
  return random.pick(EXTREMES) * (random.next() < 0.1 ? -1 : 1);
}

function otherJson(random: Random, from: unknown): unknown {
  const roll = random.next();
  if (roll < 0.55) return number(random, from);
  if (roll < 0.65)
    return `@raw:${random.pick(["1e999", "-1e999", "9007199254740993", "1e-999", "-0", "1E5"])}`;
  if (roll < 0.8 && Array.isArray(from))
    return random.pick([from.slice(1), [...from, ...from], [], [from], from.concat(null)]);
  return random.pick([
    null,
    true,
    false,
    "",
    "x",
    "constructor",
    "__proto__",
    [],
    {},
    [1],
    [null],
    { a: 1 },
    "\ud800",
    "1",
  ]);
}

/** Changes one value somewhere in a JSON tree, or takes it away. */
function changeJson(random: Random, root: Record<string, unknown>): void {
  let place: Record<string, unknown> = root;
  for (;;) {
    const key = random.pick(Object.keys(place).slice(0, 400));
    if (key === undefined) return;
    const child = place[key];
    const inner = typeof child === "object" && child !== null && Object.keys(child).length > 0;
    if (inner && random.next() < 0.8) {
      place = child as Record<string, unknown>;
      continue;
    }
    if (random.next() < 0.1) delete place[key];
    else if (random.next() < 0.05) place[random.pick(["__proto__", "constructor", "x", `${key}_`])] = child;
    else
      Object.defineProperty(place, key, {
        value: otherJson(random, child),
        enumerable: true,
        configurable: true,
        writable: true,
      });
    return;
  }
}

const CONFIG_KEYS = [
  ...[
    "attention_bias",
    "mlp_bias",
    "partial_rotary_factor",
    "original_max_position_embeddings",
    "rope_parameters",
  ],
  ...["final_logit_softcapping", "attn_logit_softcapping", "hidden_act", "hidden_activation", "quantization"],
  ...["quantization_config", "layer_types", "rope_scaling", "text_config", "num_experts", "_name_or_path"],
];

const NUMBER_TYPES = [T.u8, T.i8, T.u16, T.i16, T.u32, T.i32, T.f32, T.f64, T.u64, T.i64];

function changeKey(random: Random, keys: KeyValue[]): void {
  const at = random.below(keys.length);
  const [key, type, value] = keys[at];
  const roll = random.next();
  if (roll < 0.05) return void keys.splice(at, 1);
  if (roll < 0.08) return void keys.push([key, type, value]);
  if (type === T.array && roll < 0.7) {
    const { type: of, items, count } = value as { type: number; items: unknown[]; count?: number };
    const changed = [...items];
    const entry = random.below(changed.length);
    if (roll < 0.5 && of !== T.string)
      changed[entry] =
        of === T.f32 ? random.pick([Number.NaN, Number.POSITIVE_INFINITY, 1e30, -1]) : number(random, 1) | 0;
    else if (roll < 0.5)
      changed[entry] = random.pick(["", "<s>", "<0xZZ>", "a", "\ud800", "x".repeat(2000), "▁▁"]);
    else if (roll < 0.6) changed.splice(random.pick([0, 1, changed.length - 1]));
    else changed.push(...changed.slice(0, 3));
    keys[at] = [
      key,
      type,
      { type: of, items: changed, count: roll > 0.68 ? Math.trunc(number(random, changed.length)) : count },
    ];
    return;
  }
  if (roll < 0.9) {
    const into = random.pick(NUMBER_TYPES);
    const found =
      random.next() < 0.1
        ? random.pick([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
        : number(random, value);
    const whole = into === T.u64 || into === T.i64;
    keys[at] = [key, into, whole ? BigInt(Math.trunc(Number.isFinite(found) ? found : 0)) : found];
    return;
  }
  keys[at] = random.pick<KeyValue>([
    [key, T.string, "x"],
    [key, T.string, ""],
    [key, T.bool, 1],
    [key, T.array, { type: T.i32, items: [1, 2] }],
    [key, T.array, { type: T.f32, items: [] }],
    [`${key}_`, type, value],
  ]);
}

function changeTensor(random: Random, tensors: WrittenTensor[]): void {
  const at = random.below(tensors.length);
  const tensor = { ...tensors[at] };
  const roll = random.next();
  if (roll < 0.3)
    tensor.dims = tensor.dims.map((dim) =>
      random.next() < 0.5 ? dim : BigInt(Math.trunc(Math.abs(number(random, Number(dim))))),
    );
  else if (roll < 0.4) tensor.dims = [...tensor.dims].reverse();
  else if (roll < 0.5) tensor.type = random.below(45);
  else if (roll < 0.6) tensor.offset = BigInt(Math.trunc(Math.abs(number(random, 0))));
  else if (roll < 0.7)
    tensor.name = random.pick([
      "x",
      "",
      `${tensor.name}x`,
      "rope_freqs.weight",
      "output.bias",
      "blk.0.attn_qkv.weight",
      "blk.1.ffn_up.bias",
    ]);
  if (roll < 0.7) tensors[at] = tensor;
  else if (roll < 0.85) tensors.splice(at, 1);
  else
    tensors.push({
      ...tensor,
      name: random.pick(["rope_freqs.weight", "blk.0.attn_q.bias", "output.weight", "extra"]),
    });
}

const text = (json: unknown) => JSON.stringify(json).replace(RAW, "$1");

/** The mutated checkpoint of this number. */
async function mutated(kind: Kind, seed: number): Promise<Checkpoint> {
  const random = new Random(seed);
  const model = models.get(random.pick(kind.startsWith("gguf") ? [...FAMILIES, ...MIXED] : FAMILIES))!;
  const times = 1 + random.below(3);
  const repeat = (change: () => void) => Array.from({ length: times }, change);
  if (kind === "gguf" || kind === "gguf bytes") {
    const keys = [...model.keys];
    const tensors = [...model.tensors];
    if (kind === "gguf")
      repeat(() => (random.next() < 0.75 ? changeKey(random, keys) : changeTensor(random, tensors)));
    const bytes = writeGguf({ keys, tensors });
    if (kind === "gguf bytes")
      repeat(() => (bytes[random.below(9000)] = random.pick([0, 1, 127, 128, 255, random.below(256)])));
    return ggufCheckpoint(bufferSource("mutated.gguf", bytes));
  }
  const config = structuredClone(model.config);
  const header = structuredClone(model.header);
  const tokenizer = tokenizerJson();
  const files: Record<string, unknown> = {
    "generation_config.json": { eos_token_id: [2] },
    "tokenizer_config.json": { bos_token: "<s>", eos_token: "</s>" },
  };
  if (kind === "config.json")
    repeat(() => {
      if (random.next() < 0.2) config[random.pick(CONFIG_KEYS)] = otherJson(random, 1);
      else changeJson(random, config);
    });
  else if (kind === "tokenizer.json")
    repeat(() => changeJson(random, random.next() < 0.8 ? tokenizer : files));
  else repeat(() => changeJson(random, header));
  const written = Object.entries({ ...files, "config.json": config, "tokenizer.json": tokenizer });
  const weights = withHeader(text(header), [model.data]);
  return safetensorsCheckpoint(
    memoryFolder({
      ...Object.fromEntries(written.map(([name, json]) => [name, text(json)])),
      "model.safetensors": weights,
    }),
  );
}

/** What a message must never show: JavaScript's words for what is not there. Of weights it says "a NaN" (finite-tensor.ts). */
const ODD_WORDS = /\bundefined\b|(?<!\ba )\bNaN\b|\[object /;

export interface Outcome {
  /** "right", an error's code, or "odd: ..." for what must not happen. */
  readonly result: string;
  readonly ms: number;
}

/** Opens, loads and generates two tokens. */
export async function outcome(kind: Kind, seed: number): Promise<Outcome> {
  const started = performance.now();
  const done = (result: string): Outcome => ({ result, ms: performance.now() - started });
  try {
    const model = await loadEngineModel(await mutated(kind, seed), referenceDevice, {
      kv: "f16",
      context: 16,
      chunk: 8,
    });
    try {
      const { ids } = await model.generate("abc", { raw: true, maxTokens: 2, ignoreEnd: true }).result();
      return done(ids.length > 0 ? "right" : "odd: no tokens");
    } finally {
      await model.close();
    }
  } catch (error) {
    if (!(error instanceof NibbleError))
      return done(`odd: ${error instanceof Error ? error.stack : String(error)}`);
    const { code, message } = error;
    const wrong = ODD_WORDS.test(message) || message.length > 1000;
    return done(wrong ? `odd: ${message}` : code);
  }
}
