/**
 * GGUF key-values -> ModelConfig. Key names: the GGUF specification (ggml/docs/gguf.md). What a family leaves
 * implicit in its files (Gemma's layer pattern, its local RoPE base) stands here with its origin.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { FormatError, UnsupportedError } from "../format/errors.ts";
import { checkConfig, type LayerKind, type ModelConfig, slidingPattern } from "./config.ts";
import { type Metadata, readNumber, readString } from "./read.ts";
import { ropeFrequencies } from "./rope.ts";
import { f32Rows } from "./tensors.ts";

const FAMILIES = new Set(["llama", "qwen2", "qwen3", "gemma3"]);

export async function configFromGguf(checkpoint: Checkpoint): Promise<ModelConfig> {
  const { metadata, tensors, name: place } = checkpoint;
  const family = readString(metadata, "general.architecture", place);
  if (!FAMILIES.has(family))
    throw new UnsupportedError(
      `Architecture ${JSON.stringify(family)}`,
      `Known: ${[...FAMILIES].join(", ")}.`,
    );
  const number = (key: string, fallback?: number) =>
    readNumber(metadata, `${family}.${key}`, place, fallback);

  const embedding = tensors.get("token_embd.weight");
  if (!embedding) throw new FormatError(place, "there is no tensor token_embd.weight");
  const layers = number("block_count");
  const hidden = number("embedding_length");
  const heads = uniform(metadata, `${family}.attention.head_count`, place);
  const kvHeads = uniform(metadata, `${family}.attention.head_count_kv`, place, heads);
  const headDim = number("attention.key_length", hidden / heads);
  if (number("attention.value_length", headDim) !== headDim)
    throw new UnsupportedError(`A value head of another size than the key head (${headDim})`);
  if (number("expert_count", 0) > 0) throw new UnsupportedError("Mixture of experts");

  const gemma = family === "gemma3";
  const layerKinds: LayerKind[] = gemma
    ? // Gemma 3 technical report (arXiv 2503.19786): five local layers to one global. Files seldom say so.
      slidingPattern(layers, number("attention.sliding_window_pattern", 6))
    : new Array<LayerKind>(layers).fill("full");
  // The 27B of Gemma 3 (62 layers) scales queries by hidden / heads, the other sizes by the head size.
  const queryScalar = gemma && layers === 62 ? hidden / heads : headDim;
  const dims = number("rope.dimension_count", headDim);
  const base = number("rope.freq_base", 10_000);

  return checkConfig(
    {
      family,
      name: readString(metadata, "general.name", place, family),
      layers,
      hidden,
      heads,
      kvHeads,
      headDim,
      ffn: uniform(metadata, `${family}.feed_forward_length`, place),
      vocab: embedding.rows,
      trainedContext: number("context_length"),
      normEpsilon: number("attention.layer_norm_rms_epsilon"),
      activation: gemma ? "geluTanh" : "silu",
      embeddingScale: gemma ? Math.fround(Math.sqrt(hidden)) : 1,
      attentionScale: 1 / Math.sqrt(queryScalar),
      tied: !tensors.has("output.weight"),
      layerKinds,
      window: layerKinds.includes("sliding") ? number("attention.sliding_window") : 0,
      ropes: {
        full: { frequencies: await fullFrequencies(checkpoint, family, base, dims) },
        // Local layers keep base 10,000 and no scaling (same report, section 2).
        sliding: { frequencies: ropeFrequencies(number("rope.freq_base_swa", 10_000), dims) },
      },
    },
    place,
  );
}

/** The series, its linear scaling, and llama3 scaling, which GGUF ships as one divisor a pair in `rope_freqs.weight`. */
async function fullFrequencies(checkpoint: Checkpoint, family: string, base: number, dims: number) {
  const { metadata, tensors, name: place } = checkpoint;
  const scaling = readString(metadata, `${family}.rope.scaling.type`, place, "none");
  if (scaling !== "none" && scaling !== "linear")
    throw new UnsupportedError(`RoPE scaling ${JSON.stringify(scaling)}`);
  const linear = scaling === "linear" ? readNumber(metadata, `${family}.rope.scaling.factor`, place) : 1;
  if (!(dims > 0 && dims <= 1024 && linear > 0 && base > 0))
    throw new FormatError(place, `RoPE of ${dims} dims, base ${base}, factor ${linear}`, "positive numbers");
  const frequencies = ropeFrequencies(base, dims, linear);
  const divisors = tensors.get("rope_freqs.weight");
  if (!divisors) return frequencies;
  if (divisors.rows * divisors.cols !== dims / 2)
    throw new FormatError(
      `${place}: rope_freqs.weight`,
      `${divisors.rows * divisors.cols} values`,
      `${dims / 2}`,
    );
  const values = await f32Rows(divisors, 0, divisors.rows);
  return frequencies.map((frequency, i) => frequency / values[i]);
}

/** A number, or an array of one number repeated: some files give a value for each layer. */
function uniform(metadata: Metadata, key: string, place: string, fallback?: number): number {
  const found = metadata[key];
  if (!Array.isArray(found) && !ArrayBuffer.isView(found)) return readNumber(metadata, key, place, fallback);
  const values = Array.from(found as ArrayLike<number>);
  if (values.length > 0 && values.every((v) => v === values[0])) return values[0];
  throw new UnsupportedError(`${key} that differs between layers`);
}
