/** Workers of one process over one book: they share the proposer, and end together. */
import { mkdtempSync, rmSync } from "node:fs";
import { appendFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { AbortedError } from "../../src/format/errors.ts";
import type { Claim } from "../../src/lab/book.ts";
import { LockedError, lookAtLock } from "../../src/lab/lock.ts";
import { openLab, readLab } from "../../src/lab/open-lab.ts";
import { swarm } from "../../src/lab/swarm.ts";
import type { ResultEntry } from "../../src/lab/types.ts";
import { zeroEntries, zeroResult } from "./zero.ts";

const root = mkdtempSync(join(tmpdir(), "lab-swarm-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const never = new AbortController().signal;
const child = { models: [] };

function newGate() {
  let resolve = () => {};
  const promise = new Promise<void>((open) => {
    resolve = open;
  });
  return { promise, resolve };
}

it("works until the proposer has nothing more for the results of all", async () => {
  const book = await openLab(join(root, "one"));
  let [started, proposed] = [0, 0];
  /** Three experiments end together. */
  let gate = newGate();
  const recorded = await swarm({
    ...{ count: 3, child, book, signal: never },
    open: async () => ({
      can: [],
      async run({ id }: Claim) {
        const { promise, resolve } = gate;
        if (++started % 3 === 0) {
          gate = newGate();
          resolve();
        }
        await promise;
        return zeroResult(id);
      },
      async close() {},
    }),
    async idle() {
      const { results } = await book.snapshot();
      if (proposed === 6 || results.size < proposed) return false;
      proposed += 3;
      return (await book.add(zeroEntries(3, proposed - 3))) > 0;
    },
  });
  expect([recorded, proposed]).toEqual([6, 6]);
  await book.close();
});

it("stops all when one cannot go on, and gives back what they had", async () => {
  const book = await openLab(join(root, "two"));
  await book.add(zeroEntries(2));
  let claimed = 0;
  const running = swarm({
    ...{ count: 2, child, book, signal: never },
    open: async () => ({
      can: [],
      run: (_: Claim, signal: AbortSignal) =>
        new Promise<ResultEntry>((_resolve, reject) => {
          const stop = () => reject(new AbortedError("an experiment"));
          if (signal.aborted) stop();
          signal.addEventListener("abort", stop);
        }),
      async close() {},
    }),
    onEvent: () => {
      if (++claimed === 2) throw new Error("no room");
    },
  });
  await expect(running).rejects.toThrow("no room");
  expect(await book.claim("w", [])).not.toBeNull();
  await book.close();
});

it("holds its folder, which others may read meanwhile", async () => {
  const folder = join(root, "three");
  expect((await readLab(folder)).entries).toEqual([]);
  const book = await openLab(folder);
  await book.add(zeroEntries(1));
  await expect(openLab(folder)).rejects.toThrow(LockedError);
  // A line that its owner is still writing.
  await appendFile(join(folder, "journal.jsonl"), '{"kind":"no');
  expect((await readLab(folder)).experiments.size).toBe(1);
  await book.close();
  expect(await lookAtLock(folder)).toBeNull();
  const again = await openLab(folder);
  expect((await again.snapshot()).experiments.size).toBe(1);
  await again.close();
});
