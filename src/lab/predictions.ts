/** Predictions against outcomes: "mean KL of a over that of b on a model is below x", settled when both are measured. Pure. */
import { scoresOf } from "./scores.ts";
import type { Snapshot } from "./snapshot.ts";
import type { NoteEntry, Prediction } from "./types.ts";

export interface Resolved {
  readonly note: NoteEntry;
  readonly predicts: Prediction;
  /** null: not both are measured. */
  readonly ratio: number | null;
  readonly held: boolean | null;
}

export function resolve(known: Snapshot): Resolved[] {
  const scores = new Map([...known.models.keys()].map((model) => [model, scoresOf(known, model)]));
  return known.notes.flatMap((note) => {
    const { predicts } = note;
    if (!predicts) return [];
    const of = scores.get(predicts.model);
    const [a, b] = [of?.get(predicts.a), of?.get(predicts.b)];
    const ratio = a && b ? a.kl / b.kl : null;
    return [{ note, predicts, ratio, held: ratio === null ? null : ratio < predicts.below }];
  });
}
