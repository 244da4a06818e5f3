/**
 * A study: models, texts, cells, and the rungs that a spec climbs. Defines which experiments put a spec
 * on a rung, so that every proposer requests the same ones. Pure.
 */
import type { Snapshot } from "./snapshot.ts";
import { experimentId, identified } from "./spec.ts";
import type { Experiment, ProposalEntry, SpecEntry, TextEntry } from "./types.ts";

/** Increased when the same experiment would give other losses: rows of different versions are never paired. */
export const HARNESS_VERSION = 1;

/** A worker for an experiment must offer its model, on its device. */
export const modelNeed = (id: string, device?: "gpu") => `model:${id}${device ? `@${device}` : ""}`;

/** N texts of N positions each, and N draws of each. */
export interface Rung {
  readonly texts: number;
  readonly positions: number;
  readonly draws: number;
}

/** After 64 positions the best third was never wrong about the best three of twenty formats. */
export const RUNGS: readonly Rung[] = [
  { texts: 1, positions: 64, draws: 1 },
  { texts: 2, positions: 128, draws: 1 },
  { texts: 4, positions: 128, draws: 3 },
];
/** Answers are short, so there are more of them. */
export const ANSWER_RUNGS: readonly Rung[] = [
  { texts: 3, positions: 64, draws: 1 },
  { texts: 6, positions: 64, draws: 1 },
  { texts: 6, positions: 64, draws: 3 },
];

/** Upper ends of the sizes among which the best is looked for, in bits a value. */
export const BINS: readonly number[] = [3.6, 4.6, 5.6, 16];

export interface Study {
  readonly name: string;
  /** Fingerprints. */
  readonly models: readonly string[];
  /** Texts of all models. Those of the search are in the order in which rungs take them. */
  readonly texts: readonly TextEntry[];
  readonly cells: readonly SpecEntry[];
  /** The specs that it begins with. */
  readonly anchors: readonly SpecEntry[];
  readonly rungs: readonly Rung[];
  readonly seed: number;
  /** Default: a CPU. */
  readonly device?: "gpu";
}

export interface Why {
  readonly proposer: string;
  readonly reason: string;
  readonly parent?: string | null;
  readonly priority?: number;
}

/** Ids by study, spec, model and rung: hashing is most of a proposal. */
const IDS = new WeakMap<Study, Map<string, readonly string[]>>();

function idsFor(study: Study, spec: string, model: string, rung: number): readonly string[] {
  const known = IDS.get(study) ?? new Map<string, readonly string[]>();
  IDS.set(study, known);
  const key = `${spec} ${model} ${rung}`;
  let found = known.get(key);
  if (!found) {
    found = experimentsFor(study, spec, model, rung).map(experimentId);
    known.set(key, found);
  }
  return found;
}

/** The experiments that put a spec on a rung. */
export function experimentsFor(
  study: Study,
  spec: string,
  model: string,
  rung: number,
  split: TextEntry["split"] = "search",
): Experiment[] {
  const { texts, positions, draws: asked } = study.rungs[rung];
  const { device } = study;
  // A kernel rounds in one way only.
  const draws = device ? 1 : asked;
  const own = study.texts.filter((text) => text.model === model && text.split === split).slice(0, texts);
  return own.flatMap((text) =>
    Array.from({ length: draws }, (_, draw) => ({
      ...{ spec, model, text: text.id, rung: Math.min(positions, measurable(text)), draw },
      ...{ harness: HARNESS_VERSION, ...(device && { device }) },
    })),
  );
}

/** Entries of proposals that are not requested yet; [] if all are known. */
export function proposals(
  study: Study,
  known: Snapshot,
  experiments: readonly Experiment[],
  { proposer, reason, parent = null, priority = 0 }: Why,
): ProposalEntry[] {
  return experiments
    .filter((experiment) => !known.has(experimentId(experiment)))
    .map((experiment) =>
      identified({
        ...({ kind: "experiment", experiment, proposer, reason, parent, priority } as const),
        study: study.name,
        needs: [modelNeed(experiment.model, experiment.device)],
        at: new Date().toISOString(),
      }),
    );
}

/** The highest rung that a spec is on, and whether the next is requested already; -1: none. */
export function rungOf(
  study: Study,
  known: Snapshot,
  spec: string,
  model: string,
): { done: number; asked: number } {
  let done = -1;
  let asked = -1;
  for (let rung = 0; rung < study.rungs.length; rung++) {
    const ids = idsFor(study, spec, model, rung);
    if (ids.length === 0 || !ids.every((id) => known.experiments.has(id))) break;
    asked = rung;
    if (done === rung - 1 && ids.every((id) => known.results.has(id))) done = rung;
  }
  return { done, asked };
}

/** Positions of a text that can be measured. */
export const measurable = ({ tokens, from }: TextEntry) => tokens - from;

/** The bin of N bits, by its number. */
export const binOf = (bits: number) => {
  const found = BINS.findIndex((end) => bits <= end);
  return found < 0 ? BINS.length - 1 : found;
};

export const binName = (bin: number) => `${bin === 0 ? "up to" : `${BINS[bin - 1]} to`} ${BINS[bin]} bits`;
