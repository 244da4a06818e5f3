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
  /** The experiments whose ratio was predicted. */
  readonly experiments: readonly string[];
}

export function resolve(known: Snapshot): Resolved[] {
  const scores = new Map<string, ReturnType<typeof scoresOf>>();
  const scoresFor = ({ model, device }: Prediction) => {
    const key = `${model} ${device}`;
    const found = scores.get(key) ?? scoresOf(known, model, undefined, device);
    scores.set(key, found);
    return found;
  };
  return known.notes.flatMap((note) => {
    const { predicts } = note;
    if (!predicts) return [];
    const of = scoresFor(predicts);
    const [a, b] = [of.get(predicts.a), of.get(predicts.b)];
    const ratio = a && b ? a.kl / b.kl : null;
    const experiments = ratio === null ? [] : [...a!.experiments, ...b!.experiments];
    return [{ note, predicts, ratio, held: ratio === null ? null : ratio < predicts.below, experiments }];
  });
}
