/**
 * The lab's shared memory in Postgres, by a server of its own in a temporary folder; and the trial in which that is restarted
 * four times as by a power cut (bench/lab-trial.js).
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { postgresPrograms, startPostgres } from "../../bench/lab-trial.js";
import { AwayError } from "../../src/lab/executor.ts";
import { openBook } from "../../src/lab/open-book.ts";
import { openPostgres } from "../../src/lab/postgres.ts";
import type { StoreBook } from "../../src/lab/store-book.ts";
import { nibble } from "../app/nibble.ts";
import { tinyModel } from "../engine/tiny-model.ts";
import { type KeyValue, T } from "../format/write-gguf.ts";
import { storeCases } from "./store-cases.ts";
import { trialCase } from "./trial-case.ts";

/** The rows that a verb prints. */
async function lab(...args: string[]) {
  const { stdout, stderr, code } = await nibble(["lab", ...args, "--json"]);
  expect([stderr, code]).toEqual(["", 0]);
  return stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

const programs = postgresPrograms();
const skipped = programs ? "" : " (skipped: PostgreSQL's initdb is not installed)";

describe.skipIf(programs === null)(`a lab in Postgres${skipped}`, () => {
  let server: Awaited<ReturnType<typeof startPostgres>>;
  const books: StoreBook[] = [];
  beforeAll(async () => {
    server = await startPostgres(programs);
  }, 120_000);
  afterAll(async () => {
    for (const book of books) await book.close();
    await server.stop();
  }, 60_000);

  storeCases(async () => {
    const book = await openBook(server.url, { retrySeconds: 0, patienceMs: 0 });
    books.push(book);
    return book;
  });

  it("a server that does not answer is away, and nobody waits for it to close", async () => {
    const hour = [{ text: "select pg_sleep(3600)" }];
    const short = await openPostgres(server.url, { silentMs: 100 });
    await expect(short.run(hour)).rejects.toThrow(AwayError);
    await expect(short.run([{ text: "begin" }, ...hour])).rejects.toThrow(AwayError);
    expect(await short.run([{ text: "select 1 as one" }])).toEqual([[{ one: 1 }]]);
    await short.close();
    const patient = await openPostgres(server.url);
    const waiting = patient.run(hour).catch((error) => error);
    await patient.run([{ text: "select 1" }]);
    await patient.close();
    expect(await waiting).toBeInstanceOf(AwayError);
  }, 60_000);

  it("`nibble lab run` and `nibble lab work` take part by its URL", async () => {
    const folder = await mkdtemp(join(tmpdir(), "lab-command-"));
    const place = ["--db", server.database("command"), "--folder", folder, "--device", "reference"];
    try {
      const model = join(folder, "tiny.gguf");
      const longer = ([key, ...value]: KeyValue): KeyValue =>
        key === "llama.context_length" ? [key, T.u32, 1024] : [key, ...value];
      await writeFile(model, tinyModel({ keys: (all) => all.map(longer) }));
      const study = join(folder, "study.json");
      const int4 = { method: "affine", bits: 4, group: 32 };
      const rungs = [{ texts: 1, positions: 16, draws: 1 }];
      const specs = [{ keys: int4, values: int4 }];
      await writeFile(study, JSON.stringify({ specs, rungs, texts: "prose", models: [model] }));
      const first = await lab("run", study, "--experiments", "1", ...place);
      expect(first.at(-1)).toMatchObject({ kind: "end", experiments: 1 });
      const [result, ...more] = await lab("work", "--experiments", "1", ...place);
      expect(more).toEqual([]);
      expect(result).toMatchObject({ kind: "result", klMean: expect.any(Number) });
      const [known] = await lab("status", ...place.slice(0, 4));
      expect(known.experiments).toMatchObject({ done: 2, waiting: 0, dead: 0 });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }, 120_000);

  it("forty experiments are done once while the server is restarted four times", async () => {
    await trialCase(server.database("trial"), async () => server.crash());
  }, 600_000);
});
