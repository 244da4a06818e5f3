/** Patience with a database that is away; results that wait for it; packages that are not there. */
import { mkdtempSync, rmSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it, vi } from "vitest";
import type { Claim } from "../../src/lab/book.ts";
import { AwayError, optional, PatientExecutor, SqlError } from "../../src/lab/executor.ts";
import { Spool } from "../../src/lab/spool.ts";
import type { Store } from "../../src/lab/store.ts";
import { StoreBook } from "../../src/lab/store-book.ts";
import type { Entry } from "../../src/lab/types.ts";
import { zeroExperiment, zeroResult } from "./zero.ts";

const root = mkdtempSync(join(tmpdir(), "lab-executor-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

it("tries again while the database is away or chose it as a deadlock's victim, and only then", async () => {
  const errors: Error[] = [new AwayError("restarting"), new SqlError("40P01", "deadlock detected")];
  const inner = {
    run: async () => Promise.reject(errors.shift() ?? new SqlError("23505", "twice")),
    close: async () => {},
  };
  await expect(new PatientExecutor(inner, { patienceMs: 60_000 }).run([])).rejects.toThrow("database: twice");
  expect(errors).toEqual([]);
  const away = { run: async () => Promise.reject(new AwayError("gone")), close: async () => {} };
  await expect(new PatientExecutor(away, { patienceMs: 0 }).run([])).rejects.toThrow("database: gone");
  const patient = new PatientExecutor(away, { patienceMs: 600_000 });
  const waiting = patient.run([]);
  await patient.close();
  await expect(waiting).rejects.toThrow(AwayError);
});

it("waits no longer for a database that is away or frozen once the user stops", async () => {
  const frozen = { run: () => new Promise<never>(() => {}), close: async () => {} };
  const away = { run: async () => Promise.reject(new AwayError("gone")), close: async () => {} };
  for (const inner of [frozen, away]) {
    const stop = new AbortController();
    const patient = new PatientExecutor(inner, { patienceMs: 600_000, signal: stop.signal, leavingMs: 1 });
    const waiting = patient.run([]);
    stop.abort();
    await expect(waiting).rejects.toThrow(AwayError);
    await patient.close();
  }
  // Until then what runs is given back.
  const stop = new AbortController();
  const here = { run: async () => [], close: async () => {} };
  const patient = new PatientExecutor(here, { patienceMs: 0, signal: stop.signal, leavingMs: 60_000 });
  stop.abort();
  expect(await patient.run([])).toEqual([]);
  await patient.close();
});

it("names a package that is not installed, and how to install it", async () => {
  const name = "no-such-package";
  await expect(optional(name, () => import(name))).rejects.toThrow(
    /^a lab with a database needs the package no-such-package, .*npm install @electric-sql\/pglite/,
  );
});

it("sweeps only after it has reached the database for a while without a gap", async () => {
  vi.useFakeTimers({ toFake: ["performance"], now: 0 });
  try {
    let swept = 0;
    const store = { beat: async () => {}, sweep: async () => ++swept } as unknown as Store;
    const closed = { run: async () => [], close: async () => {} };
    const book = new StoreBook(store, closed, new Spool(join(root, "none")), { beatMs: 1e6, silentMs: 1000 });
    const tickAfter = async (ms: number) => {
      vi.advanceTimersByTime(ms);
      await book.tick();
      return swept;
    };
    expect(await tickAfter(400)).toBe(0);
    expect(await tickAfter(400)).toBe(0);
    expect(await tickAfter(400)).toBe(1);
    // The database was away, or this process slept: others have had no chance either.
    expect(await tickAfter(10_000)).toBe(1);
    expect(await tickAfter(400)).toBe(1);
    expect(await tickAfter(400)).toBe(1);
    expect(await tickAfter(400)).toBe(2);
    await book.close();
  } finally {
    vi.useRealTimers();
  }
});

it("a result that cannot be handed in waits on the disk, and is handed in later", async () => {
  let isAway = true;
  const got: Entry[] = [];
  const store = {
    recordResult: async () => Promise.reject(new AwayError("gone")),
    beat: async () => {},
    add: async (entries: Entry[]) => (isAway ? Promise.reject(new AwayError("gone")) : got.push(...entries)),
  };
  const spool = new Spool(join(root, "spool"));
  const closed = { run: async () => [], close: async () => {} };
  const book = new StoreBook(store as unknown as Store, closed, spool, { beatMs: 1e6, silentMs: 1e6 });
  const { id, experiment } = zeroExperiment(1);
  const claim = { id, experiment, token: { attempt: "a" } } as unknown as Claim;
  const result = zeroResult(id);
  expect(await book.record(claim, result)).toBe("recorded");
  await expect(book.tick()).rejects.toThrow("gone");
  isAway = false;
  await book.tick();
  await book.tick();
  expect(got).toEqual([result]);
  expect(await readdir(spool.folder)).toEqual([]);
  await book.close();
});
