/**
 * Searches what is known by words, by fields and by distance. Words match labels, notes and reasons; `where` compares fields of
 * specs; `near` orders by the distance over factors. Pure.
 */
import { ArgumentError } from "../format/errors.ts";
import { scoresOf } from "./scores.ts";
import type { Snapshot } from "./snapshot.ts";
import { distance } from "./spec.ts";
import type { NoteEntry, Spec, SpecEntry } from "./types.ts";

export interface Question {
  readonly words?: string;
  /** "method=rq4 keyBits<=4 recent>0": all of them. */
  readonly where?: string;
  /** A spec: nearest first. */
  readonly near?: Spec;
}

export interface Findings {
  readonly specs: readonly {
    readonly entry: SpecEntry;
    readonly distance: number | null;
    readonly kl: Readonly<Record<string, number>>;
  }[];
  readonly notes: readonly NoteEntry[];
}

/** ArgumentError for an invalid condition. */
export function ask(known: Snapshot, { words = "", where = "", near }: Question): Findings {
  const conditions = where
    .split(/[\s,]+/)
    .filter(Boolean)
    .map(condition);
  const wanted = wordsOf(words);
  const has = (text: string) => {
    const own = new Set(wordsOf(text));
    return wanted.filter((word) => own.has(word) || text.toLowerCase().includes(word)).length;
  };
  const models = [...known.models.values()].map(({ id, name }) => ({ name, scores: scoresOf(known, id) }));
  const specs = [...known.specs.values()]
    .filter((entry) => conditions.every((holds) => holds(entry)))
    .map((entry) => ({
      entry,
      words: has(entry.label),
      distance: near ? distance(near, entry.body) : null,
      kl: Object.fromEntries(
        models.flatMap(({ name, scores }) => {
          const score = scores.get(entry.id);
          return score ? [[name, score.kl]] : [];
        }),
      ),
    }))
    .filter((one) => wanted.length === 0 || one.words > 0)
    .sort(
      (a, b) => b.words - a.words || (a.distance ?? 0) - (b.distance ?? 0) || a.entry.bits - b.entry.bits,
    );
  const notes = known.notes
    .map((note) => ({ note, words: has(note.body) }))
    .filter((one) => (wanted.length > 0 ? one.words > 0 : where === "" && !near))
    .sort((a, b) => b.words - a.words);
  return { specs: specs.map(({ words: _, ...one }) => one), notes: notes.map(({ note }) => note) };
}

const wordsOf = (text: string) => text.toLowerCase().match(/[a-z0-9.]+/g) ?? [];

type Value = string | number | boolean;

const FIELDS: Readonly<Record<string, (entry: SpecEntry) => readonly Value[]>> = {
  method: ({ body }) => [body.keys.method, body.values.method],
  keys: ({ body }) => [body.keys.method],
  values: ({ body }) => [body.values.method],
  bits: ({ bits }) => [bits],
  keyBits: ({ keyBits }) => [keyBits],
  valueBits: ({ valueBits }) => [valueBits],
  rotate: ({ body }) => [body.keys.rotate],
  mean: ({ body }) => [body.keys.mean],
  sinks: ({ body }) => [body.sinks],
  recent: ({ body }) => [body.recent],
  keyScale: ({ body }) => [body.keyScale],
  keyMean: ({ body }) => [body.keyMean],
  temperature: ({ body }) => [body.temperature],
};

function condition(text: string): (entry: SpecEntry) => boolean {
  const match = /^(\w+)(<=|>=|!=|=|<|>)(.+)$/.exec(text);
  const field = match && Object.hasOwn(FIELDS, match[1]) ? FIELDS[match[1]] : null;
  if (!match || !field)
    throw new ArgumentError(
      "where",
      text,
      `FIELD=VALUE, also < > <= >= !=, with ${Object.keys(FIELDS).join(", ")}`,
    );
  const [, name, sign, value] = match;
  if (/[<>]/.test(sign) && !Number.isFinite(Number(value)))
    throw new ArgumentError("where", text, `a number after ${name}${sign}`);
  const compare = (found: Value) => {
    if (sign === "=") return String(found) === value;
    if (sign === "!=") return String(found) !== value;
    const [a, b] = [Number(found), Number(value)];
    return sign === "<" ? a < b : sign === ">" ? a > b : sign === "<=" ? a <= b : a >= b;
  };
  return (entry) => (sign === "!=" ? field(entry).every(compare) : field(entry).some(compare));
}
