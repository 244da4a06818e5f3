/**
 * RoPE as config.json describes it, in any of the spellings that transformers reads: `rope_parameters` (version 5; one
 * for each kind of layer in Gemma 3), or `rope_theta` with `rope_scaling` (before), or a mixture of both.
 */
import { FormatError, UnsupportedError } from "../format/errors.ts";
import { describe } from "../format/json.ts";
import { BOUNDS } from "./bounds.ts";
import type { LayerKind, RopeConfig } from "./config.ts";
import { Fields, type Metadata } from "./read.ts";
import { llama3Scaled, ropeFrequencies } from "./rope.ts";

const KINDS: Readonly<Record<LayerKind, string>> = { full: "full_attention", sliding: "sliding_attention" };

/** Bases of Gemma 3's two kinds of layers, and of everyone else's. */
const BASES: Readonly<Record<LayerKind, number>> = { full: 1_000_000, sliding: 10_000 };
const BASE = 10_000;

const ORIGINAL = "original_max_position_embeddings";

/** One RoPE for all layers. */
export function ropeOf(config: Fields, headDim: number): RopeConfig {
  // An empty object counts as missing.
  const scaling = config.object("rope_scaling");
  const given =
    scaling && Object.keys(scaling.values).length > 0 ? scaling : config.object("rope_parameters");
  const parameters = given ?? new Fields({}, config.place);
  for (const kind of Object.values(KINDS)) refuse(parameters, kind);
  const base = parameters.has("rope_theta") ? parameters : config;
  // Beside rope_parameters it takes precedence over the one inside.
  const own = config.has(ORIGINAL) ? { [ORIGINAL]: config.value(ORIGINAL) } : {};
  const merged = new Fields({ ...parameters.values, ...own }, parameters.place);
  return {
    frequencies: scaled(base.number("rope_theta", BOUNDS.ropeBase, BASE), merged, config, headDim),
  };
}

/** Gemma 3's: one for each kind of layer, of which either may be missing. `rope_scaling` concerns the full layers. */
export function ropesByKind(config: Fields, headDim: number): Record<LayerKind, RopeConfig> {
  const parameters = config.object("rope_parameters");
  // Transformers reads past what stands beside the kinds; only "default" says nothing.
  for (const [key, value] of Object.entries(parameters?.values ?? {}))
    if (!Object.values(KINDS).includes(key) && value !== "default") refuse(parameters!, key);
  const scaling = config.object("rope_scaling");
  // It would be read past as well: the default's rope_type stays.
  if (scaling && !scaling.has("rope_type")) refuse(scaling, "type");
  const of = (kind: LayerKind, baseKey: string, more: Metadata): RopeConfig => {
    const own = parameters?.object(KINDS[kind]);
    const merged = new Fields({ ...own?.values, ...more }, own?.place ?? config.place);
    const base = merged.has("rope_theta")
      ? merged.number("rope_theta", BOUNDS.ropeBase)
      : config.number(baseKey, BOUNDS.ropeBase, BASES[kind]);
    return { frequencies: scaled(base, merged, config, headDim) };
  };
  return {
    full: of("full", "rope_theta", scaling?.values ?? {}),
    sliding: of("sliding", "rope_local_base_freq", {}),
  };
}

function refuse(parameters: Fields, key: string): void {
  if (parameters.has(key)) throw new UnsupportedError(`${parameters.place}: ${key} at this place`);
}

function scaled(base: number, parameters: Fields, config: Fields, headDim: number): Float64Array {
  const { place } = parameters;
  const type = parameters.text("rope_type", parameters.text("type", "default"));
  const partial = parameters.value("partial_rotary_factor") ?? 1;
  if (partial !== 1)
    throw new UnsupportedError(`${place}: partial_rotary_factor ${describe(partial)}`, "Allowed: 1.");
  const plain = ropeFrequencies(base, headDim);
  const factor = (key: string) => parameters.number(key, BOUNDS.ropeFactor);
  switch (type) {
    case "default":
      return plain;
    case "linear":
      return ropeFrequencies(base, headDim, factor("factor"));
    case "llama3": {
      const low = factor("low_freq_factor");
      const high = factor("high_freq_factor");
      if (high <= low)
        throw new FormatError(place, `high_freq_factor is ${high}`, `above low_freq_factor, which is ${low}`);
      const original = parameters.has(ORIGINAL)
        ? parameters.number(ORIGINAL, BOUNDS.trainedContext)
        : config.number("max_position_embeddings", BOUNDS.trainedContext);
      return llama3Scaled(plain, {
        factor: factor("factor"),
        lowFrequencyFactor: low,
        highFrequencyFactor: high,
        originalContext: original,
      });
    }
    default:
      throw new UnsupportedError(
        `${place}: RoPE scaling ${describe(type)}`,
        "Types that are: default, linear, llama3.",
      );
  }
}
