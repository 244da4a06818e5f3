/**
 * The lab's shared memory in Postgres, by a server of its own in a temporary folder; and the trial in which that is restarted
 * four times as by a power cut (bench/lab-trial.js).
 */
import { afterAll, beforeAll, describe, it } from "vitest";
import { postgresPrograms, startPostgres } from "../../bench/lab-trial.js";
import { openBook } from "../../src/lab/open-book.ts";
import type { StoreBook } from "../../src/lab/store-book.ts";
import { storeCases } from "./store-cases.ts";
import { trialCase } from "./trial-case.ts";

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

  it("forty experiments are done once while the server is restarted four times", async () => {
    await trialCase(server.database("trial"), async () => server.crash());
  }, 600_000);
});
