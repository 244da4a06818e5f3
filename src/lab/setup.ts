/**
 * From models that are open to a study: their texts, the cells, the rungs (Node only: the shipped prose). Owns the defaults, and
 * the form of a study's file. A model that cannot predict prose (needle-14m) is asked questions instead.
 */
import { ArgumentError } from "../format/errors.ts";
import type { LabModel } from "./lab-model.ts";
import type { Methods } from "./methods/methods.ts";
import type { ModelRunner } from "./runner.ts";
import { shippedBook } from "./shipped-book.ts";
import { ANCHORS, cells, SPACE, specEntry } from "./space.ts";
import type { SpecDraft } from "./spec.ts";
import { ANSWER_RUNGS, RUNGS, type Rung, type Study } from "./study.ts";
import { answerTexts, type Book, proseTexts } from "./texts.ts";
import type { Entry, TextEntry } from "./types.ts";

/** A study's file, as JSON. Everything has a default. */
export interface StudyFile {
  readonly name?: string;
  /** What `load` takes. */
  readonly models?: readonly string[];
  /** These specs on every rung, each model, searched and held-out texts; without it, the space is searched. */
  readonly specs?: readonly SpecDraft[];
  readonly rungs?: readonly Rung[];
  /** Default: prose, and answers where the model cannot predict prose. */
  readonly texts?: "prose" | "answers";
  readonly seed?: number;
}

const FIELDS = ["name", "models", "specs", "rungs", "texts", "seed"];

/** ArgumentError for what is no study. */
export function checkStudy(found: unknown, place: string): StudyFile {
  if (typeof found !== "object" || found === null || Array.isArray(found))
    throw new ArgumentError(place, JSON.stringify(found)?.slice(0, 40), "a JSON object");
  for (const key of Object.keys(found))
    if (!FIELDS.includes(key)) throw new ArgumentError(`a field of ${place}`, key, FIELDS.join(", "));
  const { rungs, specs, models, texts } = found as StudyFile;
  const isCount = (x: unknown) => Number.isInteger(x) && (x as number) >= 1 && (x as number) <= 4096;
  for (const rung of rungs ?? [])
    if (![rung.texts, rung.positions, rung.draws].every(isCount))
      throw new ArgumentError(
        `a rung of ${place}`,
        JSON.stringify(rung),
        "{ texts, positions, draws }, each from 1 on",
      );
  if (rungs?.length === 0) throw new ArgumentError(`rungs of ${place}`, "empty", "at least one");
  if (specs !== undefined && !(Array.isArray(specs) && specs.length > 0))
    throw new ArgumentError(`specs of ${place}`, "no list", "a list of specs, or none to search");
  if (models !== undefined && !(Array.isArray(models) && models.every((name) => typeof name === "string")))
    throw new ArgumentError(`models of ${place}`, "no list of names", "what `nibble run` takes");
  if (texts !== undefined && texts !== "prose" && texts !== "answers")
    throw new ArgumentError(`texts of ${place}`, String(texts), "prose, answers");
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
}

export async function setUp(
  runner: ModelRunner,
  file: StudyFile = {},
  options: SetUpOptions = {},
  signal?: AbortSignal,
): Promise<SetUp> {
  const { methods } = runner;
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
  const study: Study = {
    ...{ name: file.name ?? "lab", models: models.map(({ id }) => id), texts, rungs, seed: file.seed ?? 1 },
    ...specsOf(file, methods, Math.min(...texts.map(({ tokens }) => tokens))),
  };
  return { study, entries: [...runner.entries, ...texts] };
}

/** Newest tokens that stay exact are at most this share of the shortest text: beyond, little of it is quantized at all. */
const RECENT_SHARE = 1 / 5;

function specsOf({ specs }: StudyFile, methods: Methods, shortest: number): Pick<Study, "cells" | "anchors"> {
  if (specs) return { cells: [], anchors: specs.map((draft) => specEntry(draft, methods)) };
  const recent = SPACE.recent.filter((tokens) => tokens <= shortest * RECENT_SHARE);
  return {
    cells: cells({ ...SPACE, recent }, methods),
    anchors: ANCHORS.map((draft) => specEntry(draft, methods)),
  };
}

/** Whether it does better on prose than a guess among all its tokens. */
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
