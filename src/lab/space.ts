/**
 * The cells that a study may try: factors with their values, which combinations are specs, and what each takes in bits, with
 * everything counted. Pure.
 */
import type { KvPart } from "../device/contract.ts";
import { sha256 } from "./hash.ts";
import type { Methods } from "./methods/methods.ts";
import { normalSpec, type PartDraft, type SpecDraft, specId } from "./spec.ts";
import type { KeyProfile, Part, Spec, SpecEntry } from "./types.ts";

export interface BitsAt {
  readonly headDim: number;
  /** Tokens in the cache: sinks and newest tokens are a share of them. */
  readonly context: number;
  /** Layers of the model, where a spec names some. */
  readonly layers?: number;
}

/** The place at which entries count their bits. */
export const BITS_AT: BitsAt = { headDim: 128, context: 4096 };

/** A page waits half full on average. */
const WAITING_TOKENS = 16;

export interface Bits {
  readonly keyBits: number;
  readonly valueBits: number;
  /** Bits of both. */
  readonly bits: number;
}

/** Bits a value in the cache, with scales, norms, outliers and all tokens that stay f16. */
export function specBits(spec: Spec, methods: Methods, at: BitsAt = BITS_AT): Bits {
  const of = (which: KvPart) => {
    const part = spec[which];
    const method = methods.get(part.method);
    const own = method.bitsOf({ bits: part.bits, group: part.group, headDim: at.headDim, part: which });
    const waits = method.needs[which] === "page" || spec.recent > 0 ? WAITING_TOKENS : 0;
    const exact = Math.min(1, (spec.sinks + spec.recent + waits) / at.context);
    const quantized = spec.layers && at.layers ? (spec.layers[1] - spec.layers[0]) / at.layers : 1;
    const share = (1 - exact) * quantized;
    return own * share + 16 * (1 - share);
  };
  const [keyBits, valueBits] = [of("keys"), of("values")];
  return { keyBits, valueBits, bits: (keyBits + valueBits) / 2 };
}

/** "affine 4 g32 rotated less mean". */
export function partLabel({ method, bits, group, rotate, mean }: Part, methods: Methods): string {
  if (method === "f16") return "f16";
  const { bits: all, groups } = methods.get(method);
  return [
    method === "affine" ? `int${bits}` : all.length > 1 ? `${method} ${bits}` : method,
    ...(groups.length > 1 ? [group === 0 ? "whole head" : `g${group}`] : []),
    ...(rotate ? ["rotated"] : []),
    ...(mean ? ["less mean"] : []),
  ].join(" ");
}

export function specLabel(spec: Spec, methods: Methods): string {
  const [keys, values] = [partLabel(spec.keys, methods), partLabel(spec.values, methods)];
  const { sinks, recent, keyScale, keyMean, temperature, layers, keyProfile } = spec;
  return [
    keys === values ? keys : `K ${keys}, V ${values}`,
    ...(sinks ? [`sinks ${sinks}`] : []),
    ...(recent ? [`newest ${recent}`] : []),
    ...(keyScale !== 1 ? [`keys x ${Number(keyScale.toPrecision(4))}`] : []),
    ...(temperature !== 1 ? [`softmax x ${Number(temperature.toPrecision(4))}`] : []),
    ...(keyMean !== 1 ? [`keys' mean x ${Number(keyMean.toPrecision(4))}`] : []),
    ...(keyProfile ? [`keys shown as ${profileLabel(keyProfile)}`] : []),
    ...(layers ? [`layers ${layers[0]} to ${layers[1] - 1}`] : []),
  ].join(" · ");
}

/** "flat", or the first digits of what it is. */
function profileLabel({ heads }: KeyProfile): string {
  if (heads.every(({ gains, means }) => gains.length === 1 && means === null)) return "flat";
  return `profile ${sha256(JSON.stringify(heads)).slice(0, 4)}`;
}

/** ArgumentError for a spec that is invalid with these methods. */
export function specEntry(draft: SpecDraft, methods: Methods, at = new Date().toISOString()): SpecEntry {
  const body = normalSpec(draft);
  for (const part of ["keys", "values"] as const) methods.of(body[part], part);
  const found = specBits(body, methods);
  return { kind: "spec", id: specId(body), at, body, label: specLabel(body, methods), ...found };
}

/** Values of the factors that a search crosses. */
export interface Space {
  readonly keys: readonly PartDraft[];
  readonly values: readonly PartDraft[];
  /** Keys and values are held alike, where the values can be. */
  readonly alike: boolean;
  readonly sinks: readonly number[];
  readonly recent: readonly number[];
}

const INT4: PartDraft = { method: "affine", bits: 4, group: 32 };

const crossed = (part: PartDraft): PartDraft[] => [
  part,
  { ...part, rotate: true },
  { ...part, mean: true },
  { ...part, rotate: true, mean: true },
];

const lessMean = (part: PartDraft): PartDraft[] => [part, { ...part, mean: true }];

/** Published methods, each with and without what can be added to it. */
export const SPACE: Space = {
  keys: [
    ...crossed(INT4),
    ...crossed({ method: "affine", bits: 3, group: 32 }),
    ...lessMean({ method: "affine", bits: 4, group: 64 }),
    { method: "affine", bits: 8, group: 32 },
    ...lessMean({ method: "symmetric", bits: 4, group: 32 }),
    ...lessMean({ method: "rq4" }),
    ...[3, 4].flatMap((bits) => lessMean({ method: "turbo", bits })),
    ...lessMean({ method: "polar" }),
    ...[2, 3, 4].map((bits) => ({ method: "kivi", bits })),
    ...[3, 4].map((bits) => ({ method: "kvquant", bits })),
    ...[3, 4].map((bits) => ({ method: "kvarn", bits })),
    { method: "fixed", bits: 8 },
  ],
  values: [
    INT4,
    { ...INT4, rotate: true },
    { method: "rq4" },
    { method: "turbo", bits: 4 },
    { method: "turbo", bits: 3 },
    { method: "affine", bits: 2, group: 32 },
  ],
  alike: false,
  sinks: [0, 4],
  recent: [0, 32, 128],
};

/** Every cell once. */
export function cells({ keys, values, alike, sinks, recent }: Space, methods: Methods): SpecEntry[] {
  const found = new Map<string, SpecEntry>();
  for (const key of keys)
    for (const value of alike ? [{ ...key, mean: false }] : values)
      for (const sink of sinks)
        for (const newest of recent) {
          const entry = specEntry({ keys: key, values: value, sinks: sink, recent: newest }, methods);
          found.set(entry.id, entry);
        }
  return [...found.values()];
}

/** Published methods by themselves, the same for keys and values: every study begins with them. */
export const ANCHORS: readonly SpecDraft[] = [
  { keys: INT4, values: INT4 },
  { keys: { ...INT4, rotate: true }, values: { ...INT4, rotate: true } },
  ...["rq4", "polar"].map((method) => ({ keys: { method }, values: { method } })),
  ...["kivi", "kvquant", "kvarn", "turbo", "turbo-prod"].map((method) => ({
    keys: { method, bits: 4 },
    values: { method, bits: 4 },
  })),
  { keys: { method: "fixed", bits: 8 }, values: { method: "fixed", bits: 8 } },
  { keys: { ...INT4, mean: true }, values: INT4 },
  { keys: { ...INT4, rotate: true, mean: true }, values: { ...INT4, rotate: true } },
];
