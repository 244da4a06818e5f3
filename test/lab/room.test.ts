/** How many proposals wait: two for each worker, shared among the studies. */
import { expect, it } from "vitest";
import { Backlog, roomFor } from "../../src/lab/room.ts";
import { Snapshot } from "../../src/lab/snapshot.ts";
import type { Entry } from "../../src/lab/types.ts";
import { zeroEntries, zeroExperiment, zeroResult } from "./zero.ts";

const none = new Set<string>();
const of = (study: string, from: number, count: number) =>
  Array.from({ length: count }, (_, i) => ({ ...zeroExperiment(from + i), study }) as Entry);

it("two wait for each worker, shared among the studies that wait; what runs or is done does not wait", () => {
  const known = new Snapshot();
  expect(roomFor(known, "a", { workers: 0, claimed: none })).toBe(1);
  expect(roomFor(known, "a", { workers: 4, claimed: none })).toBe(8);
  for (const entry of of("a", 0, 3)) known.add(entry);
  expect(roomFor(known, "a", { workers: 4, claimed: none })).toBe(5);
  expect(roomFor(known, "b", { workers: 4, claimed: none })).toBe(4);
  const [first, second] = [...known.experiments.keys()];
  expect(roomFor(known, "a", { workers: 4, claimed: new Set([first]) })).toBe(6);
  known.add(zeroResult(second));
  expect(roomFor(known, "a", { workers: 4, claimed: new Set([first]) })).toBe(7);
  for (const entry of of("b", 10, 20)) known.add(entry);
  expect(roomFor(known, "b", { workers: 4, claimed: none })).toBe(0);
  expect(roomFor(known, "a", { workers: 4, claimed: none })).toBe(2);
});

it("what may not wait yet is given later, the largest priority first, each once", () => {
  const backlog = new Backlog();
  const entries = zeroEntries(5);
  const experiments = entries
    .flatMap((entry) => (entry.kind === "experiment" ? [entry] : []))
    .sort((a, b) => b.priority - a.priority);
  backlog.put([...entries].reverse());
  const first = backlog.take(2);
  expect(first.slice(0, -2).map(({ kind }) => kind)).not.toContain("experiment");
  expect(first.slice(-2).map(({ id }) => id)).toEqual(experiments.slice(0, 2).map(({ id }) => id));
  expect(backlog.take(9).map(({ id }) => id)).toEqual(experiments.slice(2).map(({ id }) => id));
  expect(backlog.isEmpty).toBe(true);
});
