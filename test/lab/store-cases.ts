/** What must hold of a lab's shared memory, over whichever database. Each case has a queue of its own. */
import fc from "fast-check";
import { beforeAll, expect, it } from "vitest";
import type { Claim } from "../../src/lab/book.ts";
import { canonical, identified, jsonOf } from "../../src/lab/spec.ts";
import type { StoreBook } from "../../src/lab/store-book.ts";
import type { Entry, ResultEntry } from "../../src/lab/types.ts";
import { zeroEntries, zeroExperiment, zeroFailure, zeroResult } from "./zero.ts";

let cases = 0;

/** open(): another view of one lab, as another process has it, without pauses between tries. */
export function storeCases(open: () => Promise<StoreBook>): void {
  let one: StoreBook;
  let other: StoreBook;
  beforeAll(async () => {
    one = await open();
    other = await open();
  }, 120_000);

  /** `count` new experiments that only this case's workers can claim. */
  async function start(count: number) {
    const number = ++cases;
    const needs = [`case-${number}`];
    const entries = zeroEntries(count, 1000 * number, needs);
    await one.add(entries);
    return {
      needs,
      entries,
      ids: entries.flatMap(({ kind, id }) => (kind === "experiment" ? [id] : [])),
      claim: (book = one) => book.claim("w", needs),
      take: async (book = one) => (await book.claim("w", needs)) as Claim,
    };
  }

  it("claims exclude: many at once get each experiment once, the largest priority first", async () => {
    const { ids, claim, take } = await start(12);
    expect((await take()).id).toBe(ids[0]);
    const claims = await Promise.all(ids.map((_, i) => claim(i % 2 ? one : other)));
    const got = claims.flatMap((found) => found?.id ?? []);
    expect([...got].sort()).toEqual(ids.slice(1).sort());
    expect(await claim(other)).toBeNull();
  });

  it("gives an experiment only to who has all that it needs", async () => {
    const { needs, ids } = await start(1);
    expect(await one.claim("w", [])).toBeNull();
    expect(await one.claim("w", ["gpu"])).toBeNull();
    expect(await one.claim("w", ["gpu", ...needs])).toMatchObject({ id: ids[0], attempt: 1 });
  });

  it("studies take turns, also one that comes while a long one is at work", async () => {
    const { needs, entries, take } = await start(40);
    await take();
    const later = zeroEntries(4, 1000 * cases + 500, needs).slice(-4);
    await other.add(later.map((entry) => ({ ...entry, study: "another" }) as Entry));
    const came = new Set(later.map(({ id }) => id));
    expect(entries.some(({ id }) => came.has(id))).toBe(false);
    const claims = [];
    // The new one is seen after a few claims at most, then every second is its.
    for (let i = 0; i < 18; i++) claims.push(came.has((await take()).id));
    expect(claims.filter(Boolean)).toHaveLength(4);
    const first = claims.indexOf(true);
    expect(claims.slice(first, first + 8)).toEqual([true, false, true, false, true, false, true, false]);
  });

  it("makes room for few experiments of a study: those that wait count, for all who look, and those claimed do not", async () => {
    const { needs, claim } = await start(0);
    const study = `study ${cases}`;
    const before = await one.room(study);
    expect(before).toBeGreaterThanOrEqual(1);
    await one.add([{ ...zeroExperiment(1000 * cases, needs), study } as Entry]);
    expect([await one.room(study), await other.room(study)]).toEqual([before - 1, before - 1]);
    await claim();
    expect([await one.room(study), await other.room(study)]).toEqual([before, before]);
  });

  it("a claim whose answer was lost is the same claim when it is asked again", async () => {
    const { claim, ids } = await start(2);
    const [{ name: queue }] = await one.store.queuesFor([`case-${cases}`]);
    const attempt = crypto.randomUUID();
    const first = await one.store.take(queue, "w", attempt);
    expect(await other.store.take(queue, "w", attempt)).toEqual(first);
    expect((await claim())?.id).toBe(ids[1]);
  });

  it("a result counts once: said twice it is recorded, another one is a replicate", async () => {
    const { take, claim } = await start(1);
    const mine = await take();
    const result = zeroResult(mine.id);
    expect(await one.record(mine, result)).toBe("recorded");
    expect(await one.record(mine, result)).toBe("recorded");
    expect(await other.record(mine, zeroResult(mine.id))).toBe("replicate");
    expect(await claim()).toBeNull();
    const { results, replicates } = await other.snapshot();
    expect(results.get(mine.id)?.id).toBe(result.id);
    expect(replicates.get(mine.id)).toHaveLength(1);
  });

  it("an experiment that fails three times is dead, with its letter, until it is tried again", async () => {
    const { take, claim, ids } = await start(1);
    for (let attempt = 1; attempt <= 3; attempt++) {
      const mine = await take();
      expect(mine.attempt).toBe(attempt);
      expect(await one.record(mine, zeroFailure(mine, `error ${attempt}`))).toBe("recorded");
    }
    expect(await claim()).toBeNull();
    const snapshot = await other.snapshot();
    expect(snapshot.state(ids[0])).toBe("dead");
    const failures = snapshot.failures.get(ids[0])!;
    expect(failures.map(({ error, final }) => [error, final])).toEqual([
      ["error 1", false],
      ["error 2", false],
      ["error 3", true],
    ]);
    expect(await one.store.jobs.deadLetters()).toContain(ids[0]);
    const retry = identified({
      ...({ kind: "retry", experiment: ids[0], by: "human" } as const),
      at: new Date().toISOString(),
    });
    expect(await other.add([retry, retry])).toBe(1);
    expect(await other.add([retry])).toBe(0);
    expect(await one.store.jobs.deadLetters()).not.toContain(ids[0]);
    expect((await other.snapshot()).state(ids[0])).toBe("waiting");
    const again = await take(other);
    expect(again).toMatchObject({ id: ids[0], attempt: 4 });
    await other.record(again, zeroFailure(again));
    const last = await take(other);
    expect(await other.record(last, zeroResult(last.id))).toBe("recorded");
    expect((await one.snapshot()).state(ids[0])).toBe("done");
  });

  it("a claim given back is as if it had not been", async () => {
    const { take } = await start(1);
    const mine = await take();
    await one.release(mine);
    await one.release(mine);
    expect(await take(other)).toMatchObject({ id: mine.id, attempt: 1 });
  });

  it("ends the attempts of the silent, one sweeper only; theirs is the result all the same if it comes first", async () => {
    const { take, claim } = await start(2);
    const [early, late] = [await take(), await take()];
    const swept = await Promise.all([one.store.sweep(-1), other.store.sweep(-1), one.store.sweep(-1)]);
    // Attempts that other cases left open are among them.
    expect(swept.reduce((sum, count) => sum + count)).toBeGreaterThanOrEqual(2);
    const snapshot = await one.snapshot();
    for (const { id } of [early, late])
      expect(snapshot.failures.get(id)?.map(({ outcome, attempt }) => [outcome, attempt])).toEqual([
        ["lost", 1],
      ]);
    // Before anybody else has claimed it: nobody need.
    expect(await one.record(early, zeroResult(early.id))).toBe("recorded");
    const second = await take(other);
    expect(second).toMatchObject({ id: late.id, attempt: 2 });
    expect(await claim()).toBeNull();
    // While somebody else has it.
    expect(await one.record(late, zeroResult(late.id, 0.1))).toBe("recorded");
    expect(await other.record(second, zeroResult(late.id, 0.1001))).toBe("replicate");
    expect((await one.snapshot()).state(late.id)).toBe("done");
    expect(await claim()).toBeNull();
    // What has been counted as lost is not a failure a second time.
    expect(await one.record(early, zeroFailure(early))).toBe("replicate");
  });

  it("flags an experiment whose two results do not agree", async () => {
    const { take } = await start(1);
    const mine = await take();
    await one.record(mine, zeroResult(mine.id, 0.1));
    await other.record(mine, zeroResult(mine.id, 0.2));
    expect((await one.snapshot()).state(mine.id)).toBe("disputed");
  });

  it("a beat keeps an attempt from the sweep", async () => {
    const { take, claim } = await start(1);
    const mine = await take();
    await one.tick();
    await other.store.sweep(60_000);
    expect(await claim(other)).toBeNull();
    expect(await one.record(mine, zeroResult(mine.id))).toBe("recorded");
    const { workers } = await other.store.status();
    expect(workers).toContainEqual(expect.objectContaining({ name: "w", pid: process.pid }));
  });

  it("what came from elsewhere is not computed again", async () => {
    const { entries, ids, claim } = await start(2);
    expect(await one.add(entries)).toBe(0);
    const result = zeroResult(ids[0]);
    expect(await one.add([result, result])).toBe(1);
    expect((await claim())?.id).toBe(ids[1]);
    expect(await claim()).toBeNull();
    // With its result at once, as in an import; and a result of an experiment that nobody here knows.
    const number = 1000 * cases + 500;
    const needs = [`case-${cases}`];
    const known = zeroExperiment(number, needs);
    const later = zeroExperiment(number + 1, needs);
    expect(await one.add([zeroResult(later.id), known, zeroResult(known.id)])).toBe(3);
    expect(await one.add([later])).toBe(1);
    expect(await claim()).toBeNull();
    // Dead elsewhere, before or after it is known here, is dead here.
    const [early, late] = [zeroExperiment(number + 2, needs), zeroExperiment(number + 3, needs)];
    const died = ({ id }: { id: string }) =>
      identified({
        ...({ kind: "failure", experiment: id, outcome: "error", error: "poison", worker: "w" } as const),
        ...{ attempt: 3, final: true, at: new Date().toISOString() },
      });
    await one.add([early, died(early), late]);
    await one.add([died(late)]);
    expect(await claim()).toBeNull();
    expect(await one.store.jobs.deadLetters()).toEqual(expect.arrayContaining([early.id, late.id]));
  });

  it("refuses an experiment whose spec is not known", async () => {
    const { experiment } = zeroExperiment(1);
    const unknown = { ...experiment, spec: "f".repeat(64) };
    const { id: _, ...draft } = zeroExperiment(1);
    await expect(one.add([identified({ ...draft, experiment: unknown })])).rejects.toThrow(
      /spec of experiment .* is f+; allowed: one that was added/,
    );
  });

  it("all see the same entries, as they were said", async () => {
    const { take, needs } = await start(3);
    const odd = identified({
      ...({ kind: "note", note: "insight", body: "a\u0000b \ud800 € 'quoted' \\u0000", facets: {} } as const),
      ...{ evidence: [], predicts: null, author: "x", at: new Date().toISOString() },
    });
    const mine = await take();
    const result: ResultEntry = { ...zeroResult(mine.id), klMean: 1e-7, kl999: 123456789.12345679 };
    await one.record(mine, result);
    await one.add([odd]);
    const lines = (entries: readonly Entry[]) => entries.map((entry) => canonical(jsonOf(entry)));
    const { entries } = await other.snapshot();
    expect(lines((await one.snapshot()).entries)).toEqual(lines(entries));
    expect(lines(entries)).toEqual(expect.arrayContaining(lines([odd, result])));
    expect(needs).toHaveLength(1);
  });

  it("the queue is made anew from what is known, around what is being worked at", async () => {
    const { take, claim, ids } = await start(3);
    const mine = await take();
    const before = await one.store.jobs.deadLetters();
    await one.store.rebuildQueue();
    expect(await one.store.jobs.deadLetters()).toEqual(before);
    expect((await claim(other))?.id).toBe(ids[1]);
    expect(await one.record(mine, zeroFailure(mine))).toBe("recorded");
    // The failed one, whose priority is larger, comes again.
    expect((await claim())?.id).toBe(ids[0]);
    expect((await claim())?.id).toBe(ids[2]);
    expect(await claim()).toBeNull();
  });

  it("whatever happens in whatever order, each experiment ends once", async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constantFrom("claim", "result", "failure", "release"), who: fc.nat(2) }),
      fc.record({ kind: fc.constantFrom("sweep", "retry", "rebuild", "late"), who: fc.nat(2) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 25 }), async (steps) => {
        const { ids, claim } = await start(4);
        const hands = new Map<number, Claim>();
        /** What somebody had when it was given up: it may still come. */
        const lost: Claim[] = [];
        const bookOf = (who: number) => (who === 0 ? one : other);
        for (const { kind, who } of steps) {
          const [book, mine] = [bookOf(who), hands.get(who)];
          if (kind === "claim" && !mine) {
            const got = await claim(book);
            if (got) hands.set(who, got);
          } else if (kind === "sweep") {
            lost.push(...hands.values());
            hands.clear();
            await book.store.sweep(-1);
          } else if (kind === "rebuild") await book.store.rebuildQueue();
          else if (kind === "late" && lost.length > 0)
            await book.record(lost[0], zeroResult(lost.shift()!.id));
          else if (kind === "retry")
            await book.add([
              identified({
                ...({ kind: "retry", experiment: ids[who], by: "x" } as const),
                at: `${new Date().toISOString()} ${who}`,
              }),
            ]);
          else if (mine && ["result", "failure", "release"].includes(kind)) {
            hands.delete(who);
            if (kind === "result") await book.record(mine, zeroResult(mine.id));
            if (kind === "failure") await book.record(mine, zeroFailure(mine));
            if (kind === "release") await book.release(mine);
          }
        }
        for (const mine of hands.values()) await one.record(mine, zeroResult(mine.id));
        for (let got = await claim(); got; got = await claim()) await one.record(got, zeroResult(got.id));
        const known = await one.snapshot();
        const letters = await one.store.jobs.deadLetters();
        for (const id of ids) {
          expect(known.state(id)).toMatch(/done|dead/);
          expect([id, letters.includes(id)]).toEqual([id, known.state(id) === "dead"]);
        }
      }),
      { numRuns: 5 },
    );
  });
}
