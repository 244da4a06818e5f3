/** Entries of a lab of experiments of zero length. */
import type { Claim } from "../../src/lab/book.ts";
import { identified, normalSpec } from "../../src/lab/spec.ts";
import type {
  Entry,
  FailureEntry,
  ProposalEntry,
  ResultEntry,
  SpecEntry,
  TextEntry,
} from "../../src/lab/types.ts";
import { zeroLab } from "./zero-lab.js";
import * as runner from "./zero-runner.js";

const lab = zeroLab({ identified, normalSpec });
export const zeroSpec = lab.spec as SpecEntry;
export const zeroText = lab.text as TextEntry;
export const zeroExperiment = lab.experiment as (draw: number, needs?: readonly string[]) => ProposalEntry;
export const zeroEntries = lab.entries as (
  count: number,
  first?: number,
  needs?: readonly string[],
) => Entry[];

export function zeroFailure(claim: Claim, error = "it failed"): FailureEntry {
  return identified({
    ...({ kind: "failure", experiment: claim.id, outcome: "error", error, worker: "w" } as const),
    ...{ attempt: claim.attempt, final: false, at: new Date().toISOString() },
  });
}

/** Another one each time. */
export const zeroResult = runner.zeroResult as (experiment: string, klMean?: number) => ResultEntry;
