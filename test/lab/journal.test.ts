/** What a journal keeps when processes die, what it refuses, and that a book over it gives each experiment out once. */
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FormatError } from "../../src/format/errors.ts";
import type { Claim } from "../../src/lab/book.ts";
import { fromLines, Journal, toLines } from "../../src/lab/journal.ts";
import { JournalBook } from "../../src/lab/journal-book.ts";
import { packLosses } from "../../src/lab/losses.ts";
import { Methods } from "../../src/lab/methods/methods.ts";
import { specEntry } from "../../src/lab/space.ts";
import { identified } from "../../src/lab/spec.ts";
import type { Entry, ProposalEntry, ResultEntry, TextEntry } from "../../src/lab/types.ts";
import { work } from "../../src/lab/work.ts";

const AT = "2026-11-28T12:00:00.000Z";
const SPEC = specEntry({ keys: { method: "rq4" } }, new Methods(), AT);
const TEXT: TextEntry = {
  ...{ kind: "text", id: "t".repeat(64), at: AT, name: "a", split: "search", model: "m" },
  ...{ tokens: 4, from: 1, ids: [1, 2, 3, 4] },
};

function proposal(draw: number, more: Partial<ProposalEntry> = {}): ProposalEntry {
  const experiment = { spec: SPEC.id, model: "m", text: TEXT.id, rung: 3, draw, harness: 1 };
  return identified({
    ...({ kind: "experiment", at: AT, experiment, proposer: "human", reason: "" } as const),
    ...{ parent: null, study: "s", priority: 0, needs: [], ...more },
  });
}

function result(claim: Pick<Claim, "id">, kl = 0.1): ResultEntry {
  const losses = packLosses({ kl: Float32Array.of(kl, kl, kl), same: [true, true, false] });
  return identified({
    ...({ kind: "result", at: AT, experiment: claim.id, ...losses, ms: 1, worker: "w", env: {} } as const),
  });
}

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "nibble-journal-"));
  path = join(folder, "journal.jsonl");
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("Journal", () => {
  const entries: Entry[] = [SPEC, TEXT, proposal(0)];

  it("gives back what was appended, and goes on behind half a line", async () => {
    const first = await Journal.open(path);
    await Promise.all([first.append(entries.slice(0, 1)), first.append(entries.slice(1))]);
    await first.close();
    appendFileSync(path, toLines([proposal(1)]).slice(0, 50));
    const second = await Journal.open(path);
    expect(second.entries).toEqual(entries);
    await second.append([proposal(2)]);
    await second.close();
    expect(fromLines(readFileSync(path, "utf8"), path)).toEqual([...entries, proposal(2)]);
  });

  it("refuses a broken line by its number, and an entry that is not what its id says", async () => {
    writeFileSync(path, `${toLines(entries.slice(0, 1))}{"kind":\n${toLines(entries.slice(1))}`);
    await expect(Journal.open(path)).rejects.toThrow(`${path}, line 2: no JSON`);
    const forged = { ...proposal(0), experiment: { ...proposal(0).experiment, draw: 7 } };
    expect(() => fromLines(toLines([forged]), "f")).toThrow(FormatError);
    expect(() => fromLines('{"kind":"virus"}\n', "f")).toThrow('f, line 1: kind "virus"');
  });
});

describe("entries of a file", () => {
  const MODEL: Entry = { kind: "model", id: "m", at: AT, name: "m", family: "f", facts: { headDim: 64 } };
  const NOTE = identified({
    ...({ kind: "note", note: "hypothesis", at: AT, body: "b", facets: {}, evidence: [] } as const),
    ...{ predicts: { a: SPEC.id, b: "b", model: "m", below: 0.5 }, author: "x" },
  });
  const read = (entry: object) => fromLines(`${JSON.stringify(entry)}\n`, "f");

  it("are taken as they were written", () => {
    for (const entry of [MODEL, SPEC, TEXT, proposal(0), result(proposal(0)), NOTE])
      expect(read(entry)).toEqual([entry]);
    expect(read({ ...result(proposal(0)), losses: "", tops: "" })).toHaveLength(1);
  });

  it.each<[object, string]>([
    [{ ...MODEL, facts: null }, "f, line 1: a model: facts null; allowed: an object of numbers"],
    [{ ...MODEL, facts: { a: [1] } }, 'facts {"a":[1]}'],
    [{ ...MODEL, profile: { heads: [null] } }, "a model: a head of keyProfile is null"],
    [{ ...TEXT, ids: "1234" }, 'ids "1234"; allowed: a list of token ids'],
    [{ ...TEXT, tokens: 1e9 }, "4 ids for 1000000000 tokens"],
    [{ ...TEXT, from: 4 }, "measured from 4 on"],
    [{ ...SPEC, label: 3 }, "label 3; allowed: text"],
    [{ ...SPEC, body: { keys: null } }, "keys is null; allowed: an object with method"],
    [{ ...SPEC, bits: "4" }, 'bits "4"; allowed: a number'],
    [
      { ...proposal(0), experiment: { ...proposal(0).experiment, rung: 0 } },
      "rung 0; allowed: a whole number",
    ],
    [{ ...proposal(0), needs: "gpu" }, "needs"],
    [{ ...proposal(0), priority: null }, "priority null"],
    [{ ...result(proposal(0)), klMean: null }, "klMean null; allowed: a number"],
    [{ ...result(proposal(0)), losses: "AAAA" }, "losses that its digest does not fit"],
    [{ ...result(proposal(0)), losses: 3 }, "losses 3; allowed: base64"],
    [{ ...NOTE, predicts: { a: 1 } }, "a prediction: a 1; allowed: an id"],
    [{ ...NOTE, evidence: [1] }, "evidence [1]; allowed: a list of texts"],
    [{ kind: "retry", id: "x", at: AT, experiment: null, by: "me" }, "experiment null"],
    [[], "kind undefined"],
  ])(
    "whose fields are not what they should be are refused by the number of their line: %#",
    (entry, told) => {
      expect(() => read(entry)).toThrow(FormatError);
      expect(() => read(entry)).toThrow(told);
    },
  );
});

describe("JournalBook", () => {
  it("refuses an experiment whose spec or text nobody has added", async () => {
    const book = await JournalBook.open(path);
    await expect(book.add([TEXT, proposal(0)])).rejects.toThrow(
      `spec of experiment ${proposal(0).id.slice(0, 12)} is ${SPEC.id}; allowed: one that was added`,
    );
    expect(readFileSync(path, "utf8")).toBe("");
    expect(await book.add([proposal(0), TEXT, SPEC])).toBe(3);
    await book.close();
  });

  it("studies take turns, each its largest priority first", async () => {
    const book = await JournalBook.open(path);
    const of = (draw: number) => proposal(draw, { priority: -draw, study: draw >= 4 ? "another" : "s" });
    await book.add([SPEC, TEXT, ...[0, 1, 2, 3, 4, 5].map(of)]);
    const draws = [];
    for (let claim = await book.claim("w", []); claim; claim = await book.claim("w", []))
      draws.push(claim.experiment.draw);
    expect(draws.map((draw) => draw >= 4)).toEqual([false, true, false, true, false, false]);
    await book.close();
  });

  it("imports by identity: twice changes nothing", async () => {
    const book = await JournalBook.open(path);
    const all = [SPEC, TEXT, proposal(0), proposal(0), result(proposal(0))];
    expect(await book.add(all)).toBe(4);
    expect(await book.add(all)).toBe(0);
    await book.close();
    expect(readFileSync(path, "utf8").trim().split("\n").length).toBe(4);
  });

  it("gives an experiment to one claim, the largest priority first, and again after a restart", async () => {
    const book = await JournalBook.open(path);
    await book.add([SPEC, TEXT, proposal(0), proposal(1, { priority: 2 }), proposal(2, { needs: ["gpu"] })]);
    const claims = [await book.claim("a", []), await book.claim("b", []), await book.claim("c", [])];
    expect(claims.map((claim) => claim?.experiment.draw)).toEqual([1, 0, undefined]);
    expect((await book.claim("d", ["gpu"]))?.experiment.draw).toBe(2);
    await book.release(claims[1]!);
    expect((await book.claim("a", []))?.experiment.draw).toBe(0);
    expect(await book.record(claims[0]!, result(claims[0]!))).toBe("recorded");
    expect(await book.record(claims[0]!, result(claims[0]!, 0.2))).toBe("replicate");
    await book.close();
    const again = await JournalBook.open(path);
    expect((await again.snapshot()).state(proposal(1).id)).toBe("disputed");
    expect((await again.claim("a", []))?.experiment.draw).toBe(0);
    expect(await again.claim("a", [])).toBe(null);
    await again.close();
  });
});

describe("work", () => {
  it("records what it can, tries an error again, and gives back what runs when it is stopped", async () => {
    const book = await JournalBook.open(path);
    await book.add([SPEC, TEXT, ...[0, 1, 2].map((draw) => proposal(draw, { priority: -draw }))]);
    const stop = new AbortController();
    const tried: number[] = [];
    const runner = {
      async run(claim: Claim) {
        tried.push(claim.experiment.draw);
        if (claim.experiment.draw === 1) throw new Error("broken");
        if (claim.experiment.draw === 2) {
          stop.abort();
          throw new Error("stopped");
        }
        return result(claim);
      },
      async close() {},
    };
    await work({ book, runner, can: [], signal: stop.signal, worker: "w" });
    const known = await book.snapshot();
    expect(tried).toEqual([0, 1, 1, 1, 2]);
    expect([0, 1, 2].map((draw) => known.state(proposal(draw).id))).toEqual(["done", "dead", "waiting"]);
    expect(known.failures.get(proposal(1).id)!.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    await book.close();
  });
});
