/**
 * The lab's shared memory in Postgres, by a server of its own in a temporary folder; and the trial in which that is restarted
 * four times as by a power cut (bench/lab-trial.js).
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { postgresPrograms, startPostgres } from "../../bench/lab-trial.js";
import { openBook } from "../../src/lab/open-book.ts";
import type { StoreBook } from "../../src/lab/store-book.ts";
import { storeCases } from "./store-cases.ts";
import { trialCase } from "./trial-case.ts";

const CLI = fileURLToPath(new URL("../../dist/app/cli.js", import.meta.url));

/** The rows that a verb prints. */
async function lab(cwd: string, ...args: string[]) {
  const { stdout } = await promisify(execFile)(process.execPath, [CLI, "lab", ...args], { cwd });
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

  it("`nibble lab run` and `nibble lab work` take part by its URL", async () => {
    const db = server.database("command");
    const folder = await mkdtemp(join(tmpdir(), "lab-command-"));
    const place = ["--db", db, "--folder", folder, "--json"];
    try {
      const first = await lab(folder, "run", "--workers", "1", "--experiments", "1", ...place);
      expect(first.at(-1)).toMatchObject({ kind: "end", experiments: 1 });
      const [result, ...more] = await lab(folder, "work", "--experiments", "1", ...place);
      expect(more).toEqual([]);
      expect(result).toMatchObject({ kind: "result", klMean: expect.any(Number) });
      const [known] = await lab(folder, "status", ...place);
      expect(known.experiments).toMatchObject({ done: 2, dead: 0 });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }, 120_000);

  it("forty experiments are done once while the server is restarted four times", async () => {
    await trialCase(server.database("trial"), async () => server.crash());
  }, 600_000);
});
