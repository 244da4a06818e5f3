/**
 * The identity of specs, experiments and entries: one canonical JSON, one SHA-256. Equal things have one form (`normalSpec`), so
 * that no experiment runs twice under two names. Also the distance between two specs.
 */
import { ArgumentError } from "../format/errors.ts";
import { sha256 } from "./hash.ts";
import type { Entry, Experiment, Json, KeyProfile, Part, Spec } from "./types.ts";

/** Keys in order, no blanks, -0 as 0. ArgumentError for values that JSON does not have: NaN, infinities, undefined. */
export function canonical(value: Json): string {
  if (value === null || typeof value === "boolean" || typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw new ArgumentError("a number of an entry", value, "finite numbers");
    return JSON.stringify(value + 0);
  }
  if (Array.isArray(value)) return `[${value.map((item) => canonical(item as Json)).join(",")}]`;
  if (typeof value !== "object")
    throw new ArgumentError("a value of an entry", typeof value, "what JSON can say");
  const fields = Object.entries(value as { [key: string]: Json }).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`).join(",")}}`;
}

/** Fields of entries are JSON, which TypeScript does not infer for interfaces. */
export const jsonOf = (value: object) => value as unknown as Json;

const F16: Part = { method: "f16", bits: 16, group: 0, rotate: false, mean: false };

export type PartDraft = Partial<Part> & Pick<Part, "method">;
export type SpecDraft = Partial<Omit<Spec, "keys" | "values">> & { keys?: PartDraft; values?: PartDraft };

export const SPEC_FIELDS: readonly (keyof Spec)[] = [
  ...(["keys", "values", "sinks", "recent", "keyScale", "keyMean", "temperature"] as const),
  ...(["layers", "keyProfile"] as const),
];

/** Fills in defaults and gives equal specs one form. ArgumentError for values out of range. */
export function normalSpec(draft: SpecDraft): Spec {
  fieldsOf(draft, "a spec", SPEC_FIELDS);
  const keys = normalPart(draft.keys, "keys");
  const values = normalPart(draft.values, "values");
  const isExact = keys.method === "f16" && values.method === "f16";
  const hasKeys = keys.method !== "f16";
  const { sinks = 0, recent = 0, keyScale = 1, keyMean = 1, temperature = 1, layers = null } = draft;
  count("sinks", sinks, 0, 32, 1);
  count("recent", recent, 0, 4096, 32);
  positive("keyScale", keyScale);
  positive("temperature", temperature);
  if (layers !== null) {
    if (!(Array.isArray(layers) && layers.length === 2 && layers[0] < layers[1]))
      throw new ArgumentError("layers", JSON.stringify(layers), "[from, to) with from < to, or null");
    for (const layer of layers) count("layers", layer, 0, 10_000, 1);
  }
  if (!Number.isFinite(keyMean)) throw new ArgumentError("keyMean", keyMean, "finite numbers");
  // Specs without a profile have the ids that they had before there were any.
  const seen = hasKeys && draft.keyProfile ? { keyProfile: normalProfile(draft.keyProfile) } : {};
  return {
    ...{ keys, values, temperature, ...seen },
    sinks: isExact ? 0 : sinks,
    recent: isExact ? 0 : recent,
    keyScale: hasKeys ? keyScale : 1,
    // Where the mean is subtracted, its size has no effect.
    keyMean: hasKeys && !keys.mean ? keyMean : 1,
    layers: isExact || layers === null ? null : [layers[0], layers[1]],
  };
}

/** ArgumentError for what is no object, and for fields that it does not have. */
export function fieldsOf(found: unknown, what: string, known: readonly string[]): void {
  if (typeof found !== "object" || found === null || Array.isArray(found))
    throw new ArgumentError(what, JSON.stringify(found)?.slice(0, 40), `an object with ${known.join(", ")}`);
  for (const key of Object.keys(found))
    if (!known.includes(key)) throw new ArgumentError(`a field of ${what}`, key, known.join(", "));
}

function normalPart(draft: PartDraft = F16, which: "keys" | "values"): Part {
  fieldsOf(draft, which, Object.keys(F16));
  const { method, bits = 4, group = 0, rotate = false, mean = false } = draft;
  if (typeof method !== "string" || !/^[\w.-]{1,40}(@[0-9a-f]{12})?$/.test(method))
    throw new ArgumentError(`method of ${which}`, String(method), "a name of letters, digits, . _ -");
  if (method === "f16") return F16;
  count(`bits of ${which}`, bits, 1, 16, 1);
  count(`group of ${which}`, group, 0, 4096, 1);
  for (const flag of [rotate, mean])
    if (typeof flag !== "boolean") throw new ArgumentError(`rotate or mean of ${which}`, flag, "true, false");
  if (mean && which === "values")
    throw new ArgumentError("mean of values", true, "false: softmax hides a constant of keys only");
  return { method, bits, group, rotate, mean };
}

const MOST_HEADS = 1024;
const MOST_POINTS = 1024;

/** ArgumentError for what is none. */
export function normalProfile(profile: KeyProfile): KeyProfile {
  fieldsOf(profile, "keyProfile", ["heads"]);
  const heads: unknown = profile.heads;
  const fail = (found: unknown, allowed: string) => {
    throw new ArgumentError("keyProfile", JSON.stringify(found)?.slice(0, 60) ?? "nothing", allowed);
  };
  const isList = (list: unknown, most: number): list is number[] =>
    Array.isArray(list) && list.length >= 1 && list.length <= most && list.every(Number.isFinite);
  if (!(Array.isArray(heads) && heads.length >= 1 && heads.length <= MOST_HEADS))
    fail(heads, `{ heads: [...] } with 1 to ${MOST_HEADS} heads`);
  const normal = profile.heads.map((head) => {
    fieldsOf(head, "a head of keyProfile", ["gains", "means"]);
    const { gains, means } = head;
    if (!isList(gains, MOST_POINTS) || gains.some((gain) => gain <= 0)) fail(gains, "gains above 0");
    if (means !== null && !(isList(means, 2 * MOST_POINTS) && means.length % 2 === 0))
      fail(means, "means of the pairs' first channels, then of the second; or null");
    return { gains: [...gains], means: means && [...means] };
  });
  return { heads: normal };
}

function count(name: string, value: number, least: number, most: number, step: number): void {
  if (!(Number.isInteger(value) && value >= least && value <= most && value % step === 0))
    throw new ArgumentError(
      name,
      value,
      `${step === 1 ? "integers" : `multiples of ${step}`} ${least} to ${most}`,
    );
}

function positive(name: string, value: number): void {
  if (!(Number.isFinite(value) && value > 0)) throw new ArgumentError(name, value, "numbers above 0");
}

/** It changes only how the cache is held, not what the method sees or where. */
export function isPlain({ keyScale, keyMean, temperature, layers, keyProfile }: Spec): boolean {
  return keyScale === 1 && keyMean === 1 && temperature === 1 && layers === null && !keyProfile;
}

export function specId(spec: Spec): string {
  return sha256(canonical(jsonOf(normalSpec(spec))));
}

export function experimentId(experiment: Experiment): string {
  const { spec, model, text, rung, draw, harness, device } = experiment;
  return sha256(canonical({ spec, model, text, rung, draw, harness, ...(device && { device }) }));
}

/** An entry that has no id yet. */
export type Draft<E extends Entry = Entry> = E extends Entry ? Omit<E, "id"> : never;

/**
 * The identity of an entry: for models and texts their own digests, given by the caller; for others their
 * content without time, worker and comments.
 */
export function entryId(draft: Draft): string {
  switch (draft.kind) {
    case "spec":
      return specId(draft.body);
    case "experiment":
      return experimentId(draft.experiment);
    case "result":
      return sha256(canonical({ experiment: draft.experiment, digest: draft.digest }));
    case "failure": {
      const { experiment, worker, attempt, at } = draft;
      return sha256(canonical({ kind: "failure", experiment, worker, attempt, at }));
    }
    case "retry": {
      const { experiment, by, at } = draft;
      return sha256(canonical({ kind: "retry", experiment, by, at }));
    }
    case "note": {
      const { note, body, facets, evidence, predicts, author } = draft;
      return sha256(
        canonical({ note, body, facets, evidence, predicts: predicts && jsonOf(predicts), author }),
      );
    }
    case "model":
    case "text":
      throw new ArgumentError(
        `the id of a ${draft.kind}`,
        "not given",
        "its fingerprint, or the digest of its ids",
      );
  }
}

/** The entry with its id. */
export function identified<D extends Draft>(draft: D): D & { readonly id: string } {
  return { ...draft, id: entryId(draft) };
}

/** Weights of the factors in `distance`; those of a part count once for keys and once for values. */
const PART_WEIGHTS = { method: 3, bits: 2, group: 0.5, rotate: 1, mean: 1 };
const WEIGHTS = {
  sinks: 0.5,
  recent: 1,
  keyScale: 0.5,
  keyMean: 0.5,
  temperature: 1,
  layers: 1,
  keyProfile: 1,
};

/** Gower's distance over the factors, 0 (the same) to 1: names and flags differ or not, numbers by their logs. */
export function distance(a: Spec, b: Spec): number {
  let sum = 0;
  let most = 0;
  const add = (weight: number, share: number) => {
    sum += weight * share;
    most += weight;
  };
  const differs = (x: Json, y: Json) => (x === y ? 0 : 1);
  /** 0 to 1 where the larger is 16 times the smaller. */
  const apart = (x: number, y: number) => Math.min(1, Math.abs(Math.log2((x + 1) / (y + 1))) / 4);
  for (const part of ["keys", "values"] as const) {
    const [one, other] = [a[part], b[part]];
    for (const key of ["method", "rotate", "mean"] as const)
      add(PART_WEIGHTS[key], differs(one[key], other[key]));
    for (const key of ["bits", "group"] as const) add(PART_WEIGHTS[key], apart(one[key], other[key]));
  }
  for (const key of ["sinks", "recent", "keyScale", "temperature", "keyMean"] as const)
    add(WEIGHTS[key], apart(Math.abs(a[key]), Math.abs(b[key])));
  add(WEIGHTS.layers, differs(String(a.layers), String(b.layers)));
  const profile = ({ keyProfile }: Spec) => JSON.stringify(keyProfile ?? null);
  add(WEIGHTS.keyProfile, differs(profile(a), profile(b)));
  return sum / most;
}
