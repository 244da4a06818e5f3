/**
 * From open models to a study: their texts, the cells, the rungs (Node only: the shipped prose). Sets the defaults, and
 * reads a study's file. A model that cannot predict prose (needle-14m) is asked questions instead.
 */
import { ArgumentError } from "../format/errors.ts";
import { findSpec } from "./find-spec.ts";
import type { LabModel } from "./lab-model.ts";
import { CACHED, CACHED_NAMES, formatOf, isCached } from "./methods/cached.ts";
import type { Methods } from "./methods/methods.ts";
import type { ModelRunner } from "./runner.ts";
import { shippedBook } from "./shipped-book.ts";
import { Snapshot } from "./snapshot.ts";
import { ANCHORS, cells, SPACE, specEntry } from "./space.ts";
import { fieldsOf, SPEC_FIELDS, type SpecDraft } from "./spec.ts";
import { ANSWER_RUNGS, RUNGS, type Rung, type Study } from "./study.ts";
import { answerTexts, type Book, proseTexts } from "./texts.ts";
import type { Entry, KeyProfile, ModelEntry, SpecEntry, TextEntry } from "./types.ts";

/** A label, such as "int4 g32" or "kv3", or an object, in which `keyProfile` may be "flat" or the end of a name of the study's models, whose measured profile is taken. */
export type SpecOfFile =
  | string
  | (Omit<SpecDraft, "keyProfile"> & { readonly keyProfile?: KeyProfile | string });

/** A study's file, as JSON. Everything has a default. */
export interface StudyFile {
  readonly name?: string;
  /** What `load` takes. */
  readonly models?: readonly string[];
  /** These specs on every rung, each model, searched and held-out texts; without it, the space is searched. */
  readonly specs?: readonly SpecOfFile[];
  readonly rungs?: readonly Rung[];
  /** Default: prose, and answers where the model cannot predict prose. */
  readonly texts?: "prose" | "answers";
  readonly seed?: number;
}

const FIELDS = ["name", "models", "specs", "rungs", "texts", "seed"];

/** ArgumentError for an invalid study. */
export function checkStudy(found: unknown, place: string): StudyFile {
  fieldsOf(found, place, FIELDS);
  const { name, rungs, specs, models, texts, seed } = found as StudyFile;
  const isCount = (x: unknown) => Number.isInteger(x) && (x as number) >= 1 && (x as number) <= 4096;
  if (rungs !== undefined && !(Array.isArray(rungs) && rungs.length > 0))
    throw new ArgumentError(`rungs of ${place}`, "no list", "a list of { texts, positions, draws }");
  for (const rung of rungs ?? []) {
    fieldsOf(rung, `a rung of ${place}`, ["texts", "positions", "draws"]);
    if (![rung.texts, rung.positions, rung.draws].every(isCount))
      throw new ArgumentError(
        `a rung of ${place}`,
        JSON.stringify(rung),
        "{ texts, positions, draws }, each from 1 to 4096",
      );
  }
  if (specs !== undefined && !(Array.isArray(specs) && specs.length > 0))
    throw new ArgumentError(`specs of ${place}`, "no list", "a list of specs, or none to search");
  for (const spec of specs ?? [])
    if (typeof spec !== "string") fieldsOf(spec, `a spec of ${place}`, SPEC_FIELDS);
  const isName = (name: unknown) => typeof name === "string" && name !== "";
  if (models !== undefined && !(Array.isArray(models) && models.length > 0 && models.every(isName)))
    throw new ArgumentError(`models of ${place}`, "no list of names", "what `nibble run` takes");
  if (texts !== undefined && texts !== "prose" && texts !== "answers")
    throw new ArgumentError(`texts of ${place}`, String(texts), "prose, answers");
  if (name !== undefined && !isName(name)) throw new ArgumentError(`name of ${place}`, String(name), "text");
  if (seed !== undefined && !Number.isSafeInteger(seed))
    throw new ArgumentError(`seed of ${place}`, String(seed), "a whole number");
  return found as StudyFile;
}

export interface SetUpOptions {
  /** What is read. Default: the prose that ships. */
  readonly book?: Book;
  /** What findings are confirmed on. Default: the last third of what is read. */
  readonly holdout?: Book;
}

export interface SetUp {
  readonly study: Study;
  /** Models and texts, to add before any experiment. */
  readonly entries: readonly Entry[];
  /** Specs of the study that its device has no cache for, by label. */
  readonly leftOut: readonly string[];
}

export async function setUp(
  runner: ModelRunner,
  file: StudyFile = {},
  options: SetUpOptions = {},
  signal?: AbortSignal,
): Promise<SetUp> {
  const models = [...runner.models.values()];
  const answers = models.map(
    (model) => file.texts === "answers" || (file.texts !== "prose" && !predicts(model)),
  );
  const rungs = file.rungs ?? (answers.some(Boolean) ? ANSWER_RUNGS : RUNGS);
  const texts: TextEntry[] = [];
  for (const [i, model] of models.entries())
    for (const split of ["search", "holdout"] as const)
      texts.push(...(await textsFor(model, split, answers[i], rungs, options, signal)));
  const searched = new Set(texts.filter(({ split }) => split === "search").map(({ id }) => id));
  const both = texts.find(({ id, split }) => split === "holdout" && searched.has(id));
  if (both)
    throw new ArgumentError(`held-out text ${both.name}`, "one that the search reads", "another text");
  const { leftOut = [], ...specs } = specsOf(file, runner, Math.min(...texts.map(({ tokens }) => tokens)));
  const study: Study = {
    ...{ name: file.name ?? "lab", models: models.map(({ id }) => id), texts, rungs, seed: file.seed ?? 1 },
    ...specs,
    ...(runner.device && { device: runner.device }),
  };
  if (runner.device)
    for (const { body } of study.anchors) for (const model of models) model.checkFormat(formatOf(body)!);
  return { study, entries: [...runner.entries, ...texts], leftOut };
}

/** Newest tokens that stay exact are at most this share of the shortest text: with more, little of it would be quantized. */
const RECENT_SHARE = 1 / 5;

function specsOf(
  { specs }: StudyFile,
  { methods, entries, device }: Pick<ModelRunner, "methods" | "entries" | "device">,
  shortest: number,
): Pick<Study, "cells" | "anchors"> & { leftOut?: string[] } {
  if (device)
    return formatsOf(
      specs?.map((spec) => drafted(spec, entries, methods)),
      methods,
    );
  if (specs) {
    const found = specs.map((spec) => specEntry(drafted(spec, entries, methods), methods));
    const anchors = found.filter(({ body }) => !isCached(body));
    if (anchors.length === 0)
      throw new ArgumentError("specs of the study", "only cache formats", "other specs, or --device gpu");
    return {
      cells: [],
      anchors,
      leftOut: found.filter(({ body }) => isCached(body)).map(({ label }) => label),
    };
  }
  const recent = SPACE.recent.filter((tokens) => tokens <= shortest * RECENT_SHARE);
  return {
    cells: cells({ ...SPACE, recent }, methods),
    anchors: ANCHORS.map((draft) => specEntry(draft, methods)),
  };
}

/** Specs of a study that a device has caches for; the others are left to a CPU. */
export function formatsOf(named: readonly SpecDraft[] = CACHED, methods: Methods) {
  const found = named.map((draft) => specEntry(draft, methods));
  const isHeld = ({ body }: SpecEntry) => formatOf(body) !== null;
  const anchors = found.filter(isHeld);
  if (anchors.length === 0)
    throw new ArgumentError("specs of the study", "none that is a cache format", CACHED_NAMES.join(", "));
  const leftOut = found.filter((spec) => !isHeld(spec)).map(({ label }) => label);
  return { cells: [], anchors, leftOut };
}

/** A spec holds a profile's numbers, so that it means the same wherever it is measured. */
function drafted(spec: SpecOfFile, models: readonly ModelEntry[], methods: Methods): SpecDraft {
  if (typeof spec === "string") return findSpec(new Snapshot(), spec, methods).body;
  const { keyProfile, ...rest } = spec;
  if (typeof keyProfile !== "string") return keyProfile ? { ...rest, keyProfile } : rest;
  if (keyProfile === "flat") return { ...rest, keyProfile: { heads: [{ gains: [1], means: null }] } };
  const found = models.find(({ name }) => name.endsWith(keyProfile))?.profile;
  if (found) return { ...rest, keyProfile: found };
  const names = models.map(({ name }) => name).join(", ");
  throw new ArgumentError(
    "keyProfile",
    keyProfile,
    `flat, the end of one of ${names}, or { heads: [{ gains, means }] }`,
  );
}

/** Whether it predicts prose better than a uniform guess over its vocabulary. */
function predicts({ facts }: LabModel): boolean {
  return Number(facts?.perplexity) < Number(facts?.vocab);
}

async function textsFor(
  model: LabModel,
  split: TextEntry["split"],
  answers: boolean,
  rungs: readonly Rung[],
  { book, holdout }: SetUpOptions,
  signal?: AbortSignal,
): Promise<TextEntry[]> {
  const most = (key: keyof Rung) => Math.max(...rungs.map((rung) => rung[key]));
  const read = book ?? (await shippedBook());
  const own = split === "holdout" ? (holdout ?? read) : read;
  if (answers) return answerTexts(model, own, split, most("texts"), signal);
  return proseTexts(model, own, split, most("texts"), most("positions"), holdout !== undefined);
}
