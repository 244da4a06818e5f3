/**
 * One number a spec and model out of its experiments: mean KL as if it had been measured on all texts. Texts differ in how much
 * they lose with any spec, and not every spec is measured on all of them, so log losses are modelled as a spec's effect plus
 * a text's. Pure.
 */
import type { Snapshot } from "./snapshot.ts";
import type { Measured } from "./types.ts";

export interface Score {
  readonly spec: string;
  readonly model: string;
  /** Mean KL over the model's texts. */
  readonly kl: number;
  readonly log: number;
  /** Standard error of `log` over texts, draws and positions, roughly: for searching, not for claims. */
  readonly error: number;
  readonly texts: number;
  /** Over all texts and draws. */
  readonly positions: number;
  readonly draws: number;
  /** Share of positions with the same most likely token. */
  readonly sameTop: number;
  readonly experiments: readonly string[];
}

interface Seen {
  readonly id: string;
  readonly spec: string;
  readonly text: string;
  readonly log: number;
  /** Standard error of `log` over positions. */
  readonly error: number;
  readonly sameTop: number;
  readonly rung: number;
  readonly draw: number;
}

/** The error that even a long run of one draw has: the difference of another draw. */
const LOTTERY = 0.1;
/** Smaller losses count as 0: rounding of float32 logits. */
export const LEAST_KL = 1e-9;

/** By model: the scores of its specs. f16 alone, which loses nothing, is none. */
export function scoresOf(
  known: Snapshot,
  model: string,
  split?: "search" | "holdout",
  device: Measured = "cpu",
): ReadonlyMap<string, Score> {
  const seen: Seen[] = [];
  const harness = newestHarness(known, model);
  for (const [id, result] of known.results) {
    const experiment = known.experiments.get(id)?.experiment;
    if (experiment?.model !== model || known.state(id) !== "done") continue;
    if ((experiment.device ?? "cpu") !== device || experiment.harness !== harness) continue;
    if (split && known.texts.get(experiment.text)?.split !== split) continue;
    if (result.klMean < LEAST_KL) continue;
    const { spec, text, rung, draw } = experiment;
    const { klMean, klError, sameTop } = result;
    seen.push({ id, spec, text, log: Math.log(klMean), error: klError / klMean, sameTop, rung, draw });
  }
  const ofText = textEffects(seen);
  const bySpec = new Map<string, Seen[]>();
  for (const one of seen) bySpec.set(one.spec, [...(bySpec.get(one.spec) ?? []), one]);
  const scores = new Map<string, Score>();
  for (const [spec, list] of bySpec) {
    // A run's weight is its positions.
    const weights = list.map(({ rung }) => rung);
    const all = sum(weights);
    const log = sum(list.map((one, i) => weights[i] * (one.log - ofText.get(one.text)!))) / all;
    const variance = sum(list.map(({ error }, i) => (weights[i] / all) ** 2 * (error ** 2 + LOTTERY ** 2)));
    scores.set(spec, {
      ...{ spec, model, log, kl: Math.exp(log), error: Math.sqrt(variance), positions: all },
      texts: new Set(list.map(({ text }) => text)).size,
      draws: new Set(list.map(({ draw }) => draw)).size,
      sameTop: sum(list.map(({ sameTop }, i) => weights[i] * sameTop)) / all,
      experiments: list.map(({ id }) => id),
    });
  }
  return scores;
}

/** Other versions of the code measured something else: only the newest that has a result is looked at. */
function newestHarness(known: Snapshot, model: string): number {
  let newest = 0;
  for (const [id, { experiment }] of known.experiments)
    if (experiment.model === model && experiment.harness > newest && known.results.has(id))
      newest = experiment.harness;
  return newest;
}

/** A text's effect on log losses, 0 on average over texts: alternating least squares. */
function textEffects(seen: readonly Seen[]): ReadonlyMap<string, number> {
  const texts = new Map<string, number>();
  for (const { text } of seen) texts.set(text, 0);
  for (let turn = 0; turn < 8; turn++) {
    const specs = meansBy(
      seen,
      ({ spec }) => spec,
      ({ log, text }) => log - texts.get(text)!,
    );
    const found = meansBy(
      seen,
      ({ text }) => text,
      ({ log, spec }) => log - specs.get(spec)!,
    );
    const middle = sum([...found.values()]) / found.size;
    for (const [text, effect] of found) texts.set(text, effect - middle);
  }
  return texts;
}

function meansBy(seen: readonly Seen[], key: (one: Seen) => string, value: (one: Seen) => number) {
  const sums = new Map<string, { sum: number; count: number }>();
  for (const one of seen) {
    const found = sums.get(key(one)) ?? { sum: 0, count: 0 };
    found.sum += value(one);
    found.count++;
    sums.set(key(one), found);
  }
  return new Map([...sums].map(([name, { sum, count }]) => [name, sum / count]));
}

const sum = (list: readonly number[]) => list.reduce((all, x) => all + x, 0);

/** The Pareto frontier: no other spec has a smaller loss with as few bits. bits: of a spec. */
export function frontier(scores: Iterable<Score>, bits: (spec: string) => number): Score[] {
  const sorted = [...scores].sort((a, b) => bits(a.spec) - bits(b.spec) || a.kl - b.kl);
  const found: Score[] = [];
  for (const score of sorted)
    if (found.length === 0 || score.kl < found[found.length - 1].kl) found.push(score);
  return found;
}
