/**
 * The fields of an entry that comes from a file: whatever analyses read is there and of its kind, so that a file of another
 * program, or one that somebody has edited, is an error with the number of its line and not a crash a week later. Pure.
 */
import { ArgumentError, FormatError } from "../format/errors.ts";
import { sha256 } from "./hash.ts";
import { normalProfile } from "./spec.ts";
import type { Entry, KeyProfile } from "./types.ts";

interface Check {
  readonly holds: (value: unknown) => boolean;
  readonly allowed: string;
}

const check = (allowed: string, holds: Check["holds"]): Check => ({ allowed, holds });
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isText = (value: unknown): value is string => typeof value === "string";
const isWhole = (least: number) => (value: unknown) =>
  Number.isSafeInteger(value) && (value as number) >= least;

const text = check("text", isText);
const id = check("an id", (value) => isText(value) && value.length > 0 && value.length <= 200);
const number = check("a number", Number.isFinite);
const count = check("a whole number from 1 on", isWhole(1));
const fromZero = check("a whole number from 0 on", isWhole(0));
const texts = check("a list of texts", (value) => Array.isArray(value) && value.every(isText));
const object = check("an object", isObject);
const base64 = check("base64", (value) => isText(value) && /^[A-Za-z0-9+/]*=*$/.test(value));
const orNull = ({ holds, allowed }: Check) =>
  check(`${allowed}, or null`, (value) => value === null || holds(value));
const orNone = ({ holds, allowed }: Check) => check(allowed, (value) => value === undefined || holds(value));
const oneOf = (...names: string[]) => check(names.join(", "), (value) => names.includes(value as string));
const scalars = check("an object of numbers, texts, true, false, null", (value) => {
  const isScalar = (one: unknown) => one === null || ["number", "string", "boolean"].includes(typeof one);
  return isObject(value) && Object.values(value).every(isScalar);
});

const FIELDS: Readonly<Record<Entry["kind"], Readonly<Record<string, Check>>>> = {
  model: { name: text, family: text, facts: scalars },
  text: {
    ...{ name: text, split: oneOf("search", "holdout"), model: id, tokens: count, from: fromZero },
    ids: check("a list of token ids", (value) => Array.isArray(value) && value.every(isWhole(0))),
  },
  spec: { body: object, label: text, keyBits: number, valueBits: number, bits: number },
  experiment: {
    ...{ experiment: object, proposer: text, reason: text, parent: orNull(id) },
    ...{ study: text, priority: number, needs: texts },
  },
  result: {
    ...{ experiment: id, klMean: number, klError: number, kl999: number, sameTop: number, ms: number },
    ...{ losses: base64, tops: base64, digest: text, worker: text, env: scalars },
  },
  failure: {
    ...{ experiment: id, outcome: oneOf("error", "timeout", "memory", "lost"), error: text, worker: text },
    ...{ attempt: count, final: check("true, false", (value) => typeof value === "boolean") },
  },
  retry: { experiment: id, by: text },
  note: {
    ...{ note: oneOf("insight", "hypothesis", "finding", "plateau"), body: text, facets: object },
    ...{ evidence: texts, predicts: orNull(object), author: text },
  },
};
const EXPERIMENT = {
  ...{ spec: id, model: id, text: id, rung: count, draw: fromZero, harness: fromZero },
  device: orNone(oneOf("gpu")),
};
const PREDICTION = { a: id, b: id, model: id, below: number, device: orNone(oneOf("gpu")) };

const KINDS = Object.keys(FIELDS) as Entry["kind"][];

/** FormatError, with `place`, for what is no entry. Whether its id is that of its content is not looked at. */
export function checkEntry(found: unknown, place: string): Entry {
  const kind = isObject(found) ? found.kind : undefined;
  if (!isObject(found) || !KINDS.includes(kind as Entry["kind"]))
    throw new FormatError(place, `kind ${JSON.stringify(kind)}`, KINDS.join(", "));
  fields(found, { id, at: text, ...FIELDS[kind as Entry["kind"]] }, `${place}: a ${kind}`);
  const entry = found as unknown as Entry;
  if (entry.kind === "experiment")
    fields(entry.experiment as unknown as Record<string, unknown>, EXPERIMENT, `${place}: an experiment`);
  if (entry.kind === "note" && entry.predicts)
    fields(entry.predicts as unknown as Record<string, unknown>, PREDICTION, `${place}: a prediction`);
  if (entry.kind === "text" && !(entry.ids.length === entry.tokens && entry.from < entry.tokens))
    throw new FormatError(
      `${place}: a text`,
      `${entry.ids.length} ids for ${entry.tokens} tokens, measured from ${entry.from} on`,
      "an id for each token, and one to measure",
    );
  if (entry.kind === "model" && entry.profile !== undefined) checkProfile(entry.profile, place);
  // Without losses it is a figure: `lab export --without-losses`.
  if (entry.kind === "result" && entry.losses !== "") {
    const bytes = Buffer.from(entry.losses, "base64");
    if (bytes.length % 4 !== 0 || sha256(bytes) !== entry.digest)
      throw new FormatError(
        `${place}: a result`,
        "losses that its digest does not fit",
        "as they were measured",
      );
  }
  return entry;
}

/** ArgumentError for an experiment whose spec or text nobody has added. */
export function checkParts(entries: readonly Entry[], isKnown: (id: string) => boolean): void {
  for (const entry of entries)
    if (entry.kind === "experiment")
      for (const part of ["spec", "text"] as const)
        if (!isKnown(entry.experiment[part]))
          throw new ArgumentError(
            `${part} of experiment ${entry.id.slice(0, 12)}`,
            entry.experiment[part],
            "one that was added",
          );
}

function fields(found: Record<string, unknown>, checks: Readonly<Record<string, Check>>, what: string): void {
  for (const [field, { holds, allowed }] of Object.entries(checks))
    if (!holds(found[field]))
      throw new FormatError(what, `${field} ${JSON.stringify(found[field])?.slice(0, 40)}`, allowed);
}

function checkProfile(profile: KeyProfile, place: string): void {
  try {
    normalProfile(profile);
  } catch (cause) {
    throw new FormatError(`${place}: a model`, (cause as Error).message, undefined, { cause });
  }
}
