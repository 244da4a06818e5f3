/**
 * Reads RoPE from a config.json in any of the forms that transformers accepts: `rope_parameters` (version 5; one for
 * each kind of layer if they differ), `rope_theta` with `rope_scaling` (older), or a mixture of both.
 */
import { FormatError, UnsupportedError } from "../format/errors.ts";
import { describe } from "../format/json.ts";
import { BOUNDS, type Bound } from "./bounds.ts";
import type { RopeConfig } from "./config.ts";
import { Fields, type Metadata } from "./read.ts";
import { llama3Scaled, longRopeMagnitude, ropeFrequencies, yarnFrequencies, yarnMagnitude } from "./rope.ts";

/** Kinds of layers, by transformers' names. */
export type LayerType = "full_attention" | "sliding_attention";
const KINDS: readonly LayerType[] = ["full_attention", "sliding_attention"];

/** The parameters that a RoPE was computed from, for writing them into a file of another kind. */
export interface RopeOrigin {
  readonly type: string;
  readonly base: number;
  /** Dims of a head that are rotated. */
  readonly dims: number;
  readonly factor?: number;
  readonly originalContext?: number;
  readonly betaFast?: number;
  readonly betaSlow?: number;
  /** LongRoPE's divisor for each pair. */
  readonly short?: readonly number[];
  readonly long?: readonly number[];
}

const origins = new WeakMap<RopeConfig, RopeOrigin>();

/** The parameters of a RoPE that was read from a config.json. */
export const originOf = (rope: RopeConfig): RopeOrigin | undefined => origins.get(rope);

function made(rope: RopeConfig, origin: RopeOrigin): RopeConfig {
  origins.set(rope, origin);
  return rope;
}

const ORIGINAL = "original_max_position_embeddings";

export interface RopeOptions {
  /** The class's default, if the file has none. */
  readonly base?: number;
  /**
   * The part of a head that is rotated, if the file does not say. Default 1; null: the family always rotates whole
   * heads.
   */
  readonly partial?: number | null;
  /** Other names of scalings that the class accepts. */
  readonly aliases?: Readonly<Record<string, string>>;
}

/** One RoPE for all layers. */
export function ropeOf(config: Fields, headDim: number, options: RopeOptions = {}): RopeConfig {
  // An empty object counts as missing.
  const scaling = config.object("rope_scaling");
  const given =
    scaling && Object.keys(scaling.values).length > 0 ? scaling : config.object("rope_parameters");
  const parameters = given ?? new Fields({}, config.place);
  for (const kind of KINDS) refuse(parameters, kind);
  const base = parameters.has("rope_theta") ? parameters : config;
  // At the top level it takes precedence over the one inside.
  const own = config.has(ORIGINAL) ? { [ORIGINAL]: config.value(ORIGINAL) } : {};
  const merged = new Fields({ ...parameters.values, ...own }, parameters.place);
  return scaled(
    base.number("rope_theta", BOUNDS.ropeBase, options.base ?? 10_000),
    merged,
    config,
    headDim,
    options,
  );
}

export interface KindRope {
  readonly headDim: number;
  /** Used if the file has none. */
  readonly base: number;
  /** The older key of its base. */
  readonly baseKey?: string;
  /** Used if the file has no `rope_parameters`. */
  readonly type?: string;
  readonly partial?: number;
}

/** One RoPE for each kind of layer; either may be missing. The older `rope_scaling` applies to the full layers. */
export function ropesByKind(
  config: Fields,
  kinds: Readonly<Record<LayerType, KindRope>>,
): Record<LayerType, RopeConfig> {
  const parameters = config.object("rope_parameters");
  // transformers ignores other keys at this level, so only "default", which changes nothing, is allowed.
  for (const [key, value] of Object.entries(parameters?.values ?? {}))
    if (!KINDS.includes(key as LayerType) && value !== "default") refuse(parameters!, key);
  const scaling = config.object("rope_scaling");
  // It would be ignored as well: the default's rope_type would remain.
  if (scaling && !scaling.has("rope_type")) refuse(scaling, "type");
  const of = (kind: LayerType, more: Metadata): RopeConfig => {
    const { headDim, base: fallback, baseKey, type, partial } = kinds[kind];
    const own = parameters?.object(kind);
    const defaults = !parameters && type ? { rope_type: type, partial_rotary_factor: partial } : {};
    const merged = new Fields({ ...defaults, ...own?.values, ...more }, own?.place ?? config.place);
    const outer = baseKey ? config.number(baseKey, BOUNDS.ropeBase, fallback) : fallback;
    return scaled(merged.number("rope_theta", BOUNDS.ropeBase, outer), merged, config, headDim, {});
  };
  return {
    full_attention: of("full_attention", scaling?.values ?? {}),
    sliding_attention: of("sliding_attention", {}),
  };
}

function refuse(parameters: Fields, key: string): void {
  if (parameters.has(key)) throw new UnsupportedError(`${parameters.place}: ${key} at this place`);
}

function scaled(
  base: number,
  parameters: Fields,
  config: Fields,
  headDim: number,
  { partial: ownPart = null, aliases = {} }: RopeOptions,
): RopeConfig {
  const { place } = parameters;
  const said = parameters.text("rope_type", parameters.text("type", "default"));
  const type = Object.hasOwn(aliases, said) ? aliases[said] : said;
  const partial = parameters.value("partial_rotary_factor") ?? ownPart ?? 1;
  if (partial !== 1 && ownPart === null && type !== "proportional")
    throw new UnsupportedError(`${place}: partial_rotary_factor ${describe(partial)}`, "Allowed: 1.");
  const part = new Fields({ partial_rotary_factor: partial }, place).number(
    "partial_rotary_factor",
    BOUNDS.part,
  );
  const dims = type === "proportional" ? headDim : Math.trunc(headDim * part);
  const plain = ropeFrequencies(base, dims);
  const factor = (key: string) => parameters.number(key, BOUNDS.ropeFactor);
  const maybe = (key: string, bound: Bound = BOUNDS.ropeFactor) => parameters.numberOrNull(key, bound);
  const trained = () => config.number("max_position_embeddings", BOUNDS.trainedContext);
  const original = () =>
    parameters.has(ORIGINAL) ? parameters.number(ORIGINAL, BOUNDS.trainedContext) : trained();
  switch (type) {
    case "default":
      return made({ frequencies: plain }, { type, base, dims });
    case "linear":
      return made(
        { frequencies: ropeFrequencies(base, dims, factor("factor")) },
        { type, base, dims, factor: factor("factor") },
      );
    // Gemma 4: the first pairs are rotated, with exponents over the whole head; the others are not.
    case "proportional": {
      const turning = Math.floor((part * headDim) / 2);
      const linear = maybe("factor") ?? 1;
      const frequencies = plain.map((frequency, i) => (i < turning ? frequency / linear : 0));
      return made({ frequencies }, { type, base, dims });
    }
    case "llama3": {
      const low = factor("low_freq_factor");
      const high = factor("high_freq_factor");
      if (high <= low)
        throw new FormatError(place, `high_freq_factor is ${high}`, `above low_freq_factor, which is ${low}`);
      const scaling = { lowFrequencyFactor: low, highFrequencyFactor: high, originalContext: original() };
      const frequencies = llama3Scaled(plain, { factor: factor("factor"), ...scaling });
      return made({ frequencies }, { type, base, dims });
    }
    case "yarn": {
      const originalContext = original();
      const stretch = maybe("factor") ?? trained() / originalContext;
      const [numerator, denominator] = [
        maybe("mscale", BOUNDS.yarnWeight),
        maybe("mscale_all_dim", BOUNDS.yarnWeight),
      ];
      const ratio =
        numerator && denominator
          ? yarnMagnitude(stretch, numerator) / yarnMagnitude(stretch, denominator)
          : yarnMagnitude(stretch);
      const yarn = {
        ...{ base, dims, factor: stretch, originalContext },
        // A 0 counts as missing.
        betaFast: maybe("beta_fast", BOUNDS.yarnTurns) || 32,
        betaSlow: maybe("beta_slow", BOUNDS.yarnTurns) || 1,
      };
      const frequencies = yarnFrequencies({ ...yarn, truncate: parameters.flag("truncate", true) });
      return made({ frequencies, magnitude: maybe("attention_factor") ?? ratio }, { type, ...yarn });
    }
    case "longrope": {
      const beyond = original();
      const stretch = maybe("factor") ?? trained() / beyond;
      const numbersOf = (key: string) => {
        const factors = parameters.list(key) ?? [];
        if (factors.length !== plain.length)
          throw parameters.error(key, parameters.value(key), `${plain.length} numbers, one for each pair`);
        return factors.map((value) => new Fields({ [key]: value }, place).number(key, BOUNDS.ropeFactor));
      };
      const [short, long] = [numbersOf("short_factor"), numbersOf("long_factor")];
      const over = (numbers: readonly number[]) => plain.map((frequency, i) => frequency / numbers[i]);
      return made(
        {
          frequencies: over(short),
          magnitude: maybe("attention_factor") ?? longRopeMagnitude(stretch, beyond),
          long: { beyond, frequencies: over(long) },
        },
        { type, base, dims, originalContext: beyond, short, long },
      );
    }
    default:
      throw new UnsupportedError(
        `${place}: RoPE scaling ${describe(said)}`,
        "Supported types: default, linear, llama3, yarn, longrope, proportional.",
      );
  }
}
