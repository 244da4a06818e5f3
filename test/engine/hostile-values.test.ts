/**
 * Whole models with values changed (mutations.ts): each loads and generates, or fails with one typed error, in bounded time
 * and memory. The same cases every time; bench/mutate.ts runs more of them.
 */
import { beforeAll, expect, it } from "vitest";
import { KINDS, outcome, prepare } from "./mutations.ts";

const RUNS = Number(process.env.HOSTILE_RUNS ?? 300);

beforeAll(prepare);

it.each(KINDS)("%s", async (kind) => {
  const before = process.memoryUsage().rss;
  const counts: Record<string, number> = {};
  for (let seed = 0; seed < RUNS; seed++) {
    const { result, ms } = await outcome(kind, seed);
    expect(result, `case ${seed}`).not.toContain("odd");
    expect(ms, `case ${seed}`).toBeLessThan(5000);
    counts[result] = (counts[result] ?? 0) + 1;
  }
  // The changes are such that some go well and more do not.
  expect(counts.right).toBeGreaterThan(0);
  expect(counts.format).toBeGreaterThan(RUNS / 5);
  expect(process.memoryUsage().rss - before).toBeLessThan(500e6);
});
