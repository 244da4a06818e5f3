/** The lab's shared memory in a folder: PGlite in this process, and through the owner's socket. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ownerOf } from "../../bench/lab-trial.js";
import { openClient } from "../../src/lab/client.ts";
import { AwayError } from "../../src/lab/executor.ts";
import { toLines } from "../../src/lab/journal.ts";
import { LockedError, lookAtLock, takeLabLock } from "../../src/lab/lock.ts";
import { openBook, rebuildFolder } from "../../src/lab/open-book.ts";
import { JOURNAL } from "../../src/lab/owner.ts";
import { canonical, jsonOf } from "../../src/lab/spec.ts";
import type { StoreBook } from "../../src/lab/store-book.ts";
import { storeCases } from "./store-cases.ts";
import { trialCase } from "./trial-case.ts";
import { zeroExperiment } from "./zero.ts";

let folder: string;
const books: StoreBook[] = [];
const options = { retrySeconds: 0, patienceMs: 0 };

async function open(): Promise<StoreBook> {
  const book = await openBook(folder, options);
  books.push(book);
  return book;
}

async function closeAll(): Promise<void> {
  for (const book of books.splice(0).reverse()) await book.close();
}

// PGlite takes seconds to make a database: one for all that follows.
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "lab-store-"));
});
afterAll(async () => {
  await closeAll();
  await rm(folder, { recursive: true, force: true });
}, 60_000);

describe("a lab in a folder", () => {
  // The first is the owner, the others speak to it.
  storeCases(open);

  it("has one owner: others are refused, or join", async () => {
    await expect(takeLabLock(folder, "journal")).rejects.toThrow(LockedError);
    await expect(takeLabLock(folder, "journal")).rejects.toThrow(
      `the lab in ${folder} is held by process ${process.pid}: join it with`,
    );
    await expect(rebuildFolder(folder)).rejects.toThrow(LockedError);
    const { socket, token } = (await lookAtLock(folder))!;
    const stranger = openClient(
      socket!,
      token!.replace(/^./, (sign) => (sign === "0" ? "1" : "0")),
    );
    const asked = stranger.run([{ text: "select 1" }]);
    await expect(asked).rejects.toThrow(AwayError);
    await expect(asked).rejects.toThrow("no token");
    await stranger.close();
  });

  it("is the same after a restart, whether the journal is behind or the database is", async () => {
    const seen = async (book: StoreBook) =>
      (await book.snapshot()).entries.map((entry) => canonical(jsonOf(entry)));
    const path = join(folder, JOURNAL);
    const linesOf = async () => (await readFile(path, "utf8")).trimEnd().split("\n");
    const before = await seen(books[0]);
    const { counts } = await books[0].store.status();
    const letters = await books[0].store.jobs.deadLetters();
    await closeAll();
    const lines = await linesOf();
    expect(lines).toEqual(before);
    // As after a power cut, and as after a kill before the last line was written.
    const extra = zeroExperiment(999_001);
    await writeFile(path, [...lines.slice(0, -1), toLines([extra])].join("\n"));
    const after = await open();
    expect(await seen(after)).toEqual([...before, canonical(jsonOf(extra))]);
    expect((await linesOf()).sort()).toEqual((await seen(after)).sort());
    // All of the database lost.
    await after.store.forget();
    await closeAll();
    const rebuilt = await open();
    expect((await seen(rebuilt)).sort()).toEqual([...before, canonical(jsonOf(extra))].sort());
    expect((await rebuilt.store.status()).counts).toEqual({ ...counts, waiting: counts.waiting + 1 });
    expect(await rebuilt.store.jobs.deadLetters()).toEqual(letters);
    expect((await rebuilt.claim("w", []))?.id).toBe(extra.id);
  });

  it("forty experiments are done once while its owner is killed four times", async () => {
    await closeAll();
    await trialCase(folder, (_, running) => ownerOf(folder, running));
  }, 600_000);
});
