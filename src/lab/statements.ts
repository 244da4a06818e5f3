/** The statements that units of the store (store.ts) are made of. */
import { SqlError, type Statement } from "./executor.ts";
import { toLines } from "./journal.ts";
import type { Entry, ProposalEntry, ResultEntry } from "./types.ts";

/** SQLSTATE of lab.end_attempt: the attempt has ended before. */
const ENDED = "LAB01";

/** The queue orders by integers. */
export const rank = ({ priority }: ProposalEntry) => Math.round(priority);

export const isEnded = (error: unknown) => error instanceof SqlError && error.state === ENDED;

export function endAttempt(attempt: string, outcome: string, silentMs?: number): Statement {
  return {
    text: "select lab.end_attempt($1::uuid, $2, $3::float8 * interval '1 ms')",
    values: [attempt, outcome, silentMs ?? null],
  };
}

/** Returns a row for each entry that was new. */
export function insertEntries(entries: readonly Entry[]): Statement {
  return {
    text: `insert into lab.entry (id, kind, body) select id, kind, body::json
      from unnest($1::text[], $2::text[], $3::text[]) with ordinality as e(id, kind, body, n) order by n
      on conflict (id) do nothing returning id`,
    values: [
      entries.map(({ id }) => id),
      entries.map(({ kind }) => kind),
      entries.map((entry) => toLines([entry])),
    ],
  };
}

/** Returns a row for each result that is the first of its experiment. */
export function insertResults(results: readonly ResultEntry[], attempt: string | null): Statement {
  return {
    text: `insert into lab.result (experiment, entry, attempt) select experiment, entry, $3::uuid
      from unnest($1::text[], $2::text[]) with ordinality as r(experiment, entry, n) order by n
      on conflict (experiment) do nothing returning experiment`,
    values: [results.map(({ experiment }) => experiment), results.map(({ id }) => id), attempt],
  };
}

export interface Born {
  readonly entry: ProposalEntry;
  readonly queue: string;
  readonly state: string;
  readonly attempts: number;
  readonly allowed: number;
}

export function insertExperiments(born: readonly Born[]): Statement {
  return {
    text: `insert into lab.experiment (id, spec, text, queue, priority, state, attempts, allowed)
      select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], $7::int[], $8::int[])
      on conflict (id) do nothing`,
    values: [
      born.map(({ entry }) => entry.id),
      born.map(({ entry }) => entry.experiment.spec),
      born.map(({ entry }) => entry.experiment.text),
      born.map(({ queue }) => queue),
      born.map(({ entry }) => rank(entry)),
      born.map(({ state }) => state),
      born.map(({ attempts }) => attempts),
      born.map(({ allowed }) => allowed),
    ],
  };
}
