/** A loaded model takes guesses from a smaller one. */
import { DraftModel } from "./draft.ts";
import type { LoadedModel } from "./loaded-model.ts";
import { draftSource } from "./text.ts";

interface Guessed extends Pick<LoadedModel, "scheduler"> {
  readonly plan: Pick<LoadedModel["plan"], "weightBytes">;
}

/**
 * From now on the draft model guesses for the texts of the other one. Throws ArgumentError for a model that checks no
 * guesses.
 */
export function guessWith(model: Guessed, draft: Guessed): void {
  const share = draft.plan.weightBytes / model.plan.weightBytes;
  model.scheduler.guessWith(new DraftModel(draftSource(draft.scheduler), share));
}
