/**
 * The trial of bench/lab-trial.js with forty experiments: two workers, outages, a worker killed in the middle of an experiment,
 * and one experiment that always fails.
 */
import { expect } from "vitest";
import { TRIAL, trial } from "../../bench/lab-trial.js";
import { requireFreshBuild } from "../app/nibble.ts";
import { zeroEntries, zeroExperiment } from "./zero.ts";

const EXPERIMENTS = 40;

/** outage: what `trial` takes. */
export async function trialCase(
  where: string,
  outage: (number: number, running: Set<object>) => Promise<unknown>,
): Promise<void> {
  requireFreshBuild();
  const needs = ["trial"];
  const entries = zeroEntries(EXPERIMENTS + 1, 0, needs);
  const { lost, ...found } = await trial({
    ...{ where, entries, outage, outages: 4, workers: 2, experiments: EXPERIMENTS },
    ...TRIAL,
  });
  const poison = zeroExperiment(TRIAL.poison, needs).id;
  expect(found).toMatchObject({ results: EXPERIMENTS, dead: [poison], deadLetters: [poison] });
  // The worker that hung, at least.
  expect(lost).toBeGreaterThan(0);
}
