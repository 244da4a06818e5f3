/**
 * Spec A against spec B, as a query: one row a model with the ratio of their mean losses and its interval; then whether the
 * ratio differs between groups of models, by any fact of theirs. Pure: a function of stored losses by position.
 * Intervals over positions cannot support a claim about a fact of models: its units are models, so its p value is from a
 * permutation over them, and there is none with fewer than four a side.
 */
import { ArgumentError } from "../format/errors.ts";
import { type Estimate, estimateRatio, interval, type PairedText } from "./bootstrap.ts";
import { unpackLosses } from "./losses.ts";
import { settled } from "./sequence.ts";
import type { Snapshot } from "./snapshot.ts";
import type { Measured, ModelEntry, ResultEntry, TextEntry } from "./types.ts";

export interface ContrastOptions {
  /** Default: the search's texts and those held out, together. */
  readonly split?: "search" | "holdout";
  /** "model", or a fact of models. Default "model". */
  readonly by?: string;
  readonly alpha?: number;
  /** Only these models. */
  readonly models?: readonly string[];
  /** Where a and where b was measured: one spec on a GPU over itself on a CPU is a check of both. Default: both on a CPU. */
  readonly devices?: readonly [Measured, Measured];
}

export interface ContrastRow extends Estimate {
  readonly model: string;
  readonly name: string;
  /** Mean loss of a over that of b. */
  readonly ratio: number;
  readonly low: number;
  readonly high: number;
  readonly p: number;
  /** Benjamini-Hochberg over the rows. */
  readonly q: number;
  /** Decided for good, although results were looked at after every experiment; null: open, or only one draw of the rounding. */
  readonly settled: "better" | "worse" | "alike" | null;
  readonly experiments: readonly string[];
}

export interface GroupRow {
  readonly groups: readonly [string, string];
  readonly models: readonly [number, number];
  /** Ratio in the first group over that in the second, geometric means over models. */
  readonly ratio: number;
  /** Over positions and draws of these very models. */
  readonly low: number;
  readonly high: number;
  readonly p: number;
  readonly q: number;
  /** The groups' ratios lie on different sides of 1, each with an interval that excludes 1. */
  readonly flips: boolean;
  /** Over models: the basis of a claim about the fact. null: fewer than four models a side. */
  readonly permutation: number | null;
}

export interface Contrast {
  readonly a: string;
  readonly b: string;
  readonly by: string;
  readonly rows: readonly ContrastRow[];
  readonly groups: readonly GroupRow[];
}

/** Fewest models of a group for a permutation: 8 over 4 gives 70 ways. */
export const LEAST_MODELS = 4;

/** ArgumentError for one spec twice, and for a fact that no model has. */
export function contrast(known: Snapshot, a: string, b: string, options: ContrastOptions = {}): Contrast {
  const { by = "model", alpha = 0.05 } = options;
  const { devices: [ofA, ofB] = ["cpu", "cpu"] } = options;
  if (a === b && ofA === ofB)
    throw new ArgumentError("the second spec", "the first one", "another, or --device gpu/cpu");
  const facts = new Set(["model", ...[...known.models.values()].flatMap((one) => Object.keys(one.facts))]);
  if (!facts.has(by)) throw new ArgumentError("by", by, [...facts].join(", "));
  const rows: ContrastRow[] = [];
  for (const [model, found] of pairs(known, a, b, options)) {
    const estimate = estimateRatio(found.texts);
    if (!estimate) continue;
    const { low, high, p } = interval(estimate, alpha);
    rows.push({
      ...estimate,
      ...{ model, name: known.models.get(model)?.name ?? model, q: p },
      ...{ ratio: Math.exp(estimate.log), low: Math.exp(low), high: Math.exp(high), p },
      settled: estimate.draws > 1 ? settled(estimate, found.experiments.length, alpha) : null,
      experiments: found.experiments,
    });
  }
  const qs = falseDiscovery(rows.map(({ p }) => p));
  const withQ = rows.map((row, i) => ({ ...row, q: qs[i] }));
  return { a, b, by, rows: withQ, groups: compare(withQ, known.models, by, alpha) };
}

/** One measurement of a pair: of a spec's draw on a text. */
interface Side {
  readonly draw: number;
  readonly rung: number;
  readonly result: ResultEntry;
}

interface Place {
  readonly model: string;
  readonly text: string;
  readonly a: Map<number, Side>;
  readonly b: Map<number, Side>;
}

/**
 * By model: the texts that both have been measured on, over the positions that both have. Of texts with one beginning, a
 * shorter and a longer one, the first positions are the same measurement: they count as one text.
 */
function pairs(
  known: Snapshot,
  a: string,
  b: string,
  { split, models, devices = ["cpu", "cpu"] }: ContrastOptions,
) {
  /** By harness, model and text. */
  const places = new Map<string, Place>();
  for (const [id, result] of known.results) {
    const experiment = known.experiments.get(id)?.experiment;
    if (!experiment || (experiment.spec !== a && experiment.spec !== b)) continue;
    const { spec, model, text, rung, draw, harness, device = "cpu" } = experiment;
    const isA = spec === a && device === devices[0];
    if (!isA && !(spec === b && device === devices[1])) continue;
    if (models && !models.includes(model)) continue;
    if (split && known.texts.get(text)?.split !== split) continue;
    if (known.state(id) !== "done") continue;
    const key = `${harness} ${model} ${text}`;
    const place = places.get(key) ?? { model, text, a: new Map(), b: new Map() };
    places.set(key, place);
    take(isA ? place.a : place.b, { draw, rung, result });
  }
  const found = new Map<string, { texts: PairedText[]; experiments: string[] }>();
  for (const family of families(known, places)) {
    const [best] = [...family, ...(family.length > 1 ? [merged(family)] : [])]
      .flatMap((place) => paired(place) ?? [])
      .sort((x, y) => y.positions - x.positions || y.draws - x.draws);
    if (!best) continue;
    const { model } = family[0];
    const into = found.get(model) ?? { texts: [], experiments: [] };
    into.texts.push(best.text);
    into.experiments.push(...best.experiments);
    found.set(model, into);
  }
  return found;
}

/** A longer run has the positions of a shorter one. */
function take(sides: Map<number, Side>, side: Side): void {
  if ((sides.get(side.draw)?.rung ?? 0) < side.rung) sides.set(side.draw, side);
}

/** Places by the beginning of their texts, the longest text of each first. */
function families(known: Snapshot, places: ReadonlyMap<string, Place>): Place[][] {
  const found = new Map<string, Place[][]>();
  const tokens = ({ text }: Place) => known.texts.get(text)?.tokens ?? 0;
  for (const [key, place] of [...places].sort(([, x], [, y]) => tokens(y) - tokens(x))) {
    // Harness and model.
    const kind = key.slice(0, key.lastIndexOf(" "));
    const others = found.get(kind) ?? [];
    found.set(kind, others);
    const own = known.texts.get(place.text);
    const family = others.find(([longest]) => own && begins(known.texts.get(longest.text), own));
    if (family) family.push(place);
    else others.push([place]);
  }
  return [...found.values()].flat();
}

/** Whether `whole` begins as `part`, and is measured from the same position on. */
function begins(whole: TextEntry | undefined, part: TextEntry): boolean {
  return whole?.from === part.from && part.ids.every((id, i) => whole.ids[i] === id);
}

function merged(family: readonly Place[]): Place {
  const place: Place = { ...family[0], a: new Map(), b: new Map() };
  for (const { a, b } of family) {
    for (const side of a.values()) take(place.a, side);
    for (const side of b.values()) take(place.b, side);
  }
  return place;
}

/** null: one side has not been measured there. */
function paired({ a, b }: Place) {
  if (a.size === 0 || b.size === 0) return null;
  // Two interventions share the random numbers of their draws, so that equal specs give equal results.
  const common = [...a.keys()].filter((draw) => b.has(draw));
  const chosen = (side: Map<number, Side>) =>
    [...side.values()]
      .filter(({ draw }) => common.length === 0 || common.includes(draw))
      .sort((x, y) => x.draw - y.draw);
  const [ofA, ofB] = [chosen(a), chosen(b)];
  const positions = Math.min(...[...ofA, ...ofB].map(({ rung }) => rung));
  const losses = (list: readonly Side[]) =>
    list.map(({ result }) => unpackLosses(result).kl.subarray(0, positions));
  return {
    positions,
    draws: Math.min(ofA.length, ofB.length),
    text: { a: losses(ofA), b: losses(ofB) } as PairedText,
    experiments: [...ofA, ...ofB].map(({ result }) => result.experiment),
  };
}

function compare(
  rows: readonly ContrastRow[],
  models: ReadonlyMap<string, ModelEntry>,
  by: string,
  alpha: number,
): GroupRow[] {
  const groups = new Map<string, ContrastRow[]>();
  for (const row of rows) {
    const fact = by === "model" ? row.name : models.get(row.model)?.facts[by];
    const key = fact === undefined || fact === null ? "not known" : String(fact);
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  const names = [...groups.keys()].sort();
  const found: Omit<GroupRow, "q">[] = [];
  names.forEach((one, i) => {
    for (const other of names.slice(i + 1)) {
      const sides = [groups.get(one)!, groups.get(other)!] as const;
      const [x, y] = sides.map(together);
      const difference = combine(x, y);
      const { low, high, p } = interval(difference, alpha);
      const excludes = (side: Pick<Estimate, "log" | "error" | "freedom">) => {
        const { low, high } = interval(side, alpha);
        return low > 0 || high < 0;
      };
      found.push({
        groups: [one, other],
        models: [sides[0].length, sides[1].length],
        ...{ ratio: Math.exp(difference.log), low: Math.exp(low), high: Math.exp(high), p },
        flips: x.log * y.log < 0 && excludes(x) && excludes(y),
        permutation: permutation(
          sides[0].map(({ log }) => log),
          sides[1].map(({ log }) => log),
        ),
      });
    }
  });
  const qs = falseDiscovery(found.map(({ p }) => p));
  return found.map((row, i) => ({ ...row, q: qs[i] }));
}

type Mean = Pick<Estimate, "log" | "error" | "freedom">;

/** The mean of estimates of different models. */
function together(rows: readonly Mean[]): Mean {
  const count = rows.length;
  const variance = rows.reduce((sum, { error }) => sum + error ** 2, 0);
  const below = rows.reduce((sum, { error, freedom }) => sum + error ** 4 / freedom, 0);
  return {
    log: rows.reduce((sum, { log }) => sum + log, 0) / count,
    error: Math.sqrt(variance) / count,
    freedom: below > 0 ? variance ** 2 / below : 1,
  };
}

/** x - y. */
function combine(x: Mean, y: Mean): Mean {
  const variance = x.error ** 2 + y.error ** 2;
  const below = x.error ** 4 / x.freedom + y.error ** 4 / y.freedom;
  return {
    log: x.log - y.log,
    error: Math.sqrt(variance),
    freedom: below > 0 ? variance ** 2 / below : 1,
  };
}

/** Benjamini and Hochberg 1995: the false discovery rate among all p values up to this one. */
export function falseDiscovery(ps: readonly number[]): number[] {
  const order = ps.map((p, i) => ({ p, i })).sort((a, b) => b.p - a.p);
  const qs = new Array<number>(ps.length);
  let least = 1;
  order.forEach(({ p, i }, fromEnd) => {
    least = Math.min(least, (p * ps.length) / (ps.length - fromEnd));
    qs[i] = least;
  });
  return qs;
}

/**
 * Two-sided: how often a random assignment to groups of these sizes differs at least as much in its means. All assignments are
 * enumerated.
 */
export function permutation(one: readonly number[], other: readonly number[]): number | null {
  if (one.length < LEAST_MODELS || other.length < LEAST_MODELS) return null;
  const all = [...one, ...other];
  const total = all.reduce((sum, x) => sum + x, 0);
  const difference = (sum: number) => Math.abs(sum / one.length - (total - sum) / other.length);
  const seen = difference(one.reduce((sum, x) => sum + x, 0));
  let ways = 0;
  let asMuch = 0;
  const choose = (from: number, left: number, sum: number): void => {
    if (left === 0) {
      ways++;
      if (difference(sum) >= seen - 1e-12) asMuch++;
      return;
    }
    for (let i = from; i <= all.length - left; i++) choose(i + 1, left - 1, sum + all[i]);
  };
  choose(0, one.length, 0);
  return asMuch / ways;
}
