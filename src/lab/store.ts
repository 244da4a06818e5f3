/**
 * The lab in a database: entries, and what is derived from them. Each function is one atomic unit (executor.ts) that is
 * harmless if it runs twice: entries are identified by their ids, claims and records by their attempt. All units access
 * job, result, entry and experiment in this order, so that no two of them wait for each other.
 */
import { randomUUID } from "node:crypto";
import { checkParts } from "./check-entry.ts";
import { type Executor, type Row, SqlError, type Statement } from "./executor.ts";
import { type Job, Jobs, queueName } from "./jobs.ts";
import { migrate } from "./migrate.ts";
import type { Crew } from "./room.ts";
import { identified } from "./spec.ts";
import { endAttempt, insertEntries, insertExperiments, insertResults, isEnded, rank } from "./statements.ts";
import type { Entry, FailureEntry, ProposalEntry, ResultEntry, Spec, TextEntry } from "./types.ts";
import { Verdicts } from "./verdicts.ts";

/** Tries of an experiment before it is dead, and the same number again after a `retry`. */
const TRIES = 3;
/** Entries of one unit: results are some kilobytes each. */
const BATCH = 200;

const UNIQUE = "23505";
const BODIES = "p.body::text as proposal, s.body::text as spec, x.body::text as text";

export interface StoreOptions {
  /** Pause before a failed experiment is tried again; doubled each time. */
  readonly retrySeconds: number;
}

export interface WorkerFacts {
  readonly name: string;
  readonly host: string;
  readonly pid: number;
  readonly can: readonly string[];
}

export interface Attempt {
  readonly attempt: string;
  readonly queue: string;
  readonly experiment: string;
  /** Number of the attempt, from 1. */
  readonly number: number;
}

/** An experiment that is being computed. */
export interface Taken extends Attempt {
  readonly proposal: ProposalEntry;
  readonly spec: Spec;
  readonly text: TextEntry;
}

export interface Queue {
  readonly name: string;
  /** How much it asks of a worker. */
  readonly asks: number;
}

export class Store {
  readonly #executor: Executor;
  readonly jobs: Jobs;
  readonly #queues = new Map<string, readonly string[]>();

  private constructor(executor: Executor, jobs: Jobs) {
    this.#executor = executor;
    this.jobs = jobs;
  }

  /** `prepare`: creates or migrates the tables. Only not needed to join a living owner. */
  static async open(executor: Executor, options: StoreOptions, prepare: boolean): Promise<Store> {
    const jobs = await Jobs.open(executor, options.retrySeconds);
    if (prepare) {
      await migrate(executor);
      await jobs.prepare();
    }
    return new Store(executor, jobs);
  }

  async #rows(text: string, values: readonly unknown[] = []): Promise<Row[]> {
    return (await this.#executor.run([{ text, values }]))[0];
  }

  /** Adds what is new; experiments that have no result wait for a worker from then on. How many entries were new. */
  async add(entries: readonly Entry[]): Promise<number> {
    let added = 0;
    for (let from = 0; from < entries.length; from += BATCH)
      added += await this.#addBatch(entries.slice(from, from + BATCH));
    return added;
  }

  async #addBatch(entries: readonly Entry[]): Promise<number> {
    const isProposal = (entry: Entry) => entry.kind === "experiment";
    const parts = entries.filter(isProposal).flatMap(({ experiment }) => [experiment.spec, experiment.text]);
    const known = await this.#rows("select id from lab.entry where id = any($1::text[])", [
      [...new Set([...entries.map(({ id }) => id), ...parts])],
    ]);
    const seen = new Set(known.map(({ id }) => id as string));
    const fresh = entries.filter(({ id }) => !seen.has(id) && seen.add(id));
    if (fresh.length === 0) return 0;

    const proposals = fresh.filter(isProposal);
    checkParts(fresh, (id) => seen.has(id));
    const results = fresh.filter((entry) => entry.kind === "result");
    const about = fresh.flatMap((entry) =>
      entry.kind === "experiment" ? [entry.id] : "experiment" in entry ? [entry.experiment] : [],
    );
    for (const proposal of proposals) await this.#makeQueue(proposal);
    const rows = await this.#experiments([...new Set(about)]);
    const done = new Set(results.map(({ experiment }) => experiment));
    for (const [id, { isDone }] of rows) if (isDone) done.add(id);

    const verdicts = new Verdicts(fresh);
    const born = proposals.map((entry) => {
      const allowed = verdicts.attempts(entry.id) + TRIES;
      const state = done.has(entry.id) ? "done" : verdicts.isDead(entry.id) ? "dead" : "waiting";
      return { entry, state, attempts: verdicts.attempts(entry.id), allowed, queue: queueName(entry) };
    });
    const jobs: Job[] = born.flatMap(({ entry, queue, state }) => {
      if (state === "done") return [];
      const job = { experiment: entry.id, queue, priority: rank(entry) };
      return [state === "dead" ? this.jobs.deadLetter(entry.id) : job];
    });
    const ended = new Map<string, string[]>();
    for (const [id, row] of rows) {
      if (!row.queue) continue;
      const again = verdicts.isRetried(id) && !done.has(id);
      if (done.has(id) || verdicts.isDead(id) || again) push(ended, row.queue, id);
      if (again) jobs.push({ experiment: id, queue: row.queue, priority: row.priority });
      else if (verdicts.isDead(id) && !done.has(id)) jobs.push(this.jobs.deadLetter(id));
    }

    const statements: Statement[] = [];
    for (const [queue, experiments] of ended)
      statements.push(...(await this.jobs.remove(queue, experiments)));
    if (jobs.length > 0) statements.push(await this.jobs.send(jobs));
    statements.push(insertResults(results, null), insertEntries(fresh));
    const inserted = statements.length - 1;
    if (born.length > 0) statements.push(insertExperiments(born));
    statements.push({
      text: `update lab.experiment set state = case when id = any($1::text[]) then 'done' when id = any($2::text[]) then 'dead' else 'waiting' end,
          allowed = case when id = any($3::text[]) then attempts + $4 else allowed end
        where state <> 'done' and (id = any($1::text[]) or id = any($2::text[]) or id = any($3::text[]))`,
      values: [
        [...done],
        about.filter((id) => verdicts.isDead(id)),
        about.filter((id) => verdicts.isRetried(id)),
        TRIES,
      ],
    });
    return (await this.#executor.run(statements, fresh))[inserted].length;
  }

  async #experiments(ids: readonly string[]) {
    const rows = await this.#rows(
      `select i.id, e.queue, e.priority, r.experiment is not null as done from unnest($1::text[]) i(id)
        left join lab.experiment e on e.id = i.id left join lab.result r on r.experiment = i.id`,
      [ids],
    );
    return new Map(
      rows.map((row) => [
        row.id as string,
        { queue: row.queue as string | null, priority: row.priority as number, isDone: row.done === true },
      ]),
    );
  }

  async #makeQueue(proposal: ProposalEntry): Promise<void> {
    const { needs } = proposal;
    const name = queueName(proposal);
    if (this.#queues.has(name)) return;
    await this.jobs.makeQueue(name);
    await this.#rows("insert into lab.queue (name, needs) values ($1, $2::text[]) on conflict do nothing", [
      name,
      [...needs].sort(),
    ]);
    this.#queues.set(name, needs);
  }

  /** Queues that a worker with these offers may take from, most demanding first: few others can serve those. */
  async queuesFor(can: readonly string[]): Promise<Queue[]> {
    const rows = await this.#rows(
      "select name, cardinality(needs) as asks from lab.queue where needs <@ $1::text[] order by asks desc, name",
      [can],
    );
    return rows.map(({ name, asks }) => ({ name: name as string, asks: Number(asks) }));
  }

  /**
   * The next experiment of a queue, now an attempt of this worker; null: none is waiting. `attempt`: a new UUID; called again
   * with the same one after a lost answer, it returns the same experiment.
   */
  async take(queue: string, worker: string, attempt: string = randomUUID()): Promise<Taken | null> {
    const { text, values = [] } = await this.jobs.take(queue);
    const [a, w] = [`$${values.length + 1}`, `$${values.length + 2}`];
    const claim = `with job as (${text}),
      taken as (
        update lab.experiment e set attempts = e.attempts + 1 from job
        where e.id = job.data->>'experiment' and e.state <> 'done' returning e.*),
      made as (
        insert into lab.attempt (id, experiment, worker, queue, job, number)
        select ${a}::uuid, t.id, ${w}, $1, job.id, t.attempts from taken t, job returning experiment)
      select job.data->>'experiment' as experiment, t.attempts as number, ${BODIES}
      from job left join taken t on true left join lab.entry p on p.id = t.id
        left join lab.entry s on s.id = t.spec left join lab.entry x on x.id = t.text`;
    for (;;) {
      let row: Row | undefined;
      try {
        row = (await this.#rows(claim, [...values, attempt, worker]))[0];
      } catch (error) {
        if (!(error instanceof SqlError && error.state === UNIQUE)) throw error;
        row = (await this.#attempt(attempt)) ?? undefined;
      }
      if (row === undefined) return null;
      const experiment = row.experiment as string;
      if (row.proposal === null) {
        // Its result came from elsewhere meanwhile.
        await this.#executor.run(await this.jobs.remove(queue, [experiment]));
        continue;
      }
      return {
        ...{ attempt, queue, experiment, number: row.number as number },
        proposal: JSON.parse(row.proposal as string) as ProposalEntry,
        spec: JSON.parse(row.spec as string).body as Spec,
        text: JSON.parse(row.text as string) as TextEntry,
      };
    }
  }

  async #attempt(attempt: string): Promise<Row | null> {
    const rows = await this.#rows(
      `select a.experiment, a.number, ${BODIES} from lab.attempt a
        join lab.experiment e on e.id = a.experiment join lab.entry p on p.id = e.id
        join lab.entry s on s.id = e.spec join lab.entry x on x.id = e.text
        where a.id = $1::uuid`,
      [attempt],
    );
    return rows[0] ?? null;
  }

  /** Records the result of an attempt. "replicate": another was first. An attempt that was given up counts, too. */
  async recordResult(taken: Taken, entry: ResultEntry): Promise<"recorded" | "replicate"> {
    const { attempt, experiment, queue } = taken;
    try {
      const rows = await this.#executor.run(
        [
          endAttempt(attempt, "done"),
          ...(await this.jobs.remove(queue, [experiment])),
          insertResults([entry], attempt),
          insertEntries([entry]),
          {
            text: "update lab.experiment set state = 'done' where id = $1 and state <> 'done'",
            values: [experiment],
          },
        ],
        [entry],
      );
      return rows[3].length > 0 ? "recorded" : "replicate";
    } catch (error) {
      if (!isEnded(error)) throw error;
    }
    await this.add([entry]);
    const [first] = await this.#rows("select entry from lab.result where experiment = $1", [experiment]);
    return first?.entry === entry.id ? "recorded" : "replicate";
  }

  /**
   * Records a failure; the experiment waits for another try, or is dead after its last. Returns the recorded entry;
   * null: the attempt had ended before. `silent`: only if the attempt has had no heartbeat for N ms.
   */
  async recordFailure(taken: Attempt, entry: FailureEntry, silent?: number): Promise<FailureEntry | null> {
    const { attempt, experiment, queue, number } = taken;
    const [row] = await this.#rows("select state, allowed, priority from lab.experiment where id = $1", [
      experiment,
    ]);
    const final = row.state === "dead" || number >= (row.allowed as number);
    const { id: _, ...said } = entry;
    const kept = identified({ ...said, attempt: number, final });
    const statements = [
      endAttempt(attempt, entry.outcome, silent),
      ...(await this.jobs.remove(queue, [experiment])),
      insertEntries([kept]),
    ];
    // The job or dead letter that remains is the experiment's only one, whatever happened in between.
    if (row.state !== "done") {
      const again = { experiment, queue, priority: row.priority as number, failures: number };
      statements.push(await this.jobs.send([final ? this.jobs.deadLetter(experiment) : again]), {
        text: "update lab.experiment set state = $2 where id = $1 and state not in ('done', $2)",
        values: [experiment, final ? "dead" : "waiting"],
      });
    }
    try {
      await this.#executor.run(statements, [kept]);
      return kept;
    } catch (error) {
      if (!isEnded(error)) throw error;
      return null;
    }
  }

  /** The attempt does not count: the experiment waits as before. */
  async release(taken: Taken): Promise<void> {
    const { attempt, experiment, queue, proposal } = taken;
    const job = { experiment, queue, priority: rank(proposal) };
    try {
      await this.#executor.run([
        endAttempt(attempt, "released"),
        ...(await this.jobs.remove(queue, [experiment])),
        await this.jobs.send([job]),
        { text: "update lab.experiment set attempts = attempts - 1 where id = $1", values: [experiment] },
      ]);
    } catch (error) {
      if (!isEnded(error)) throw error;
    }
  }

  /** Heartbeat of workers and of their attempts. */
  async beat(workers: readonly WorkerFacts[], attempts: readonly string[]): Promise<void> {
    await this.#executor.run([
      ...workers.map(({ name, host, pid, can }) => ({
        text: `insert into lab.worker (name, host, pid, can) values ($1, $2, $3, $4::text[])
          on conflict (name) do update set beat = now(), host = $2, pid = $3, can = $4::text[]`,
        values: [name, host, pid, can],
      })),
      {
        text: "update lab.attempt set beat = now() where id = any($1::uuid[]) and ended is null",
        values: [attempts],
      },
    ]);
  }

  /**
   * Ends attempts without a heartbeat for `silentMs`; their experiments wait again. Returns how many. Any process may call it.
   */
  async sweep(silentMs: number): Promise<number> {
    const rows = await this.#rows(
      `select id::text, experiment, queue, number, worker from lab.attempt
        where ended is null and beat < now() - $1 * interval '1 ms'`,
      [silentMs],
    );
    let swept = 0;
    for (const { id, experiment, queue, number, worker } of rows as Record<string, never>[]) {
      const entry = identified({
        kind: "failure",
        ...{ experiment, worker, attempt: number, outcome: "lost", final: false },
        error: `worker ${worker} gave no sign of life for ${Math.round(silentMs / 1000)} s`,
        at: new Date().toISOString(),
      } as const);
      const kept = await this.recordFailure({ attempt: id, experiment, queue, number }, entry, silentMs);
      if (kept) swept++;
    }
    return swept;
  }

  /** Entries that came after `since` (some may be given again), in order; and the `since` of the next call. */
  async entriesSince(since: string | null): Promise<{ entries: Entry[]; next: string }> {
    // What is older than the oldest transaction that still runs is visible to the second statement in any case.
    const [[{ next }], rows] = await this.#executor.run([
      { text: "select pg_snapshot_xmin(pg_current_snapshot())::text as next", values: [] },
      {
        text: "select body::text as body from lab.entry where tx >= $1::text::xid8 order by seq",
        values: [since ?? "0"],
      },
    ]);
    return { entries: rows.map(({ body }) => JSON.parse(body as string)), next: next as string };
  }

  /** Ids of all entries. */
  async ids(): Promise<Set<string>> {
    return new Set((await this.#rows("select id from lab.entry")).map(({ id }) => id as string));
  }

  /** Removes all that the database holds of the lab: it is rebuilt when the lab is opened the next time. */
  async forget(): Promise<void> {
    await this.#executor.run([this.jobs.forget(), { text: "drop schema lab cascade", values: [] }]);
  }

  /** Rebuilds the queue from our rows; open attempts keep their experiments. Returns how many wait in it. */
  async rebuildQueue(): Promise<number> {
    const rows = await this.#rows(
      `select e.id, e.queue, e.priority from lab.experiment e where state = 'waiting'
        and not exists (select from lab.attempt a where a.experiment = e.id and a.ended is null)`,
    );
    const jobs = rows.map(
      (row): Job => ({
        experiment: row.id as string,
        queue: row.queue as string,
        priority: row.priority as number,
      }),
    );
    const dead = await this.#rows("select id from lab.experiment where state = 'dead'");
    const letters = dead.map(({ id }) => this.jobs.deadLetter(id as string));
    await this.#executor.run([this.jobs.clear(), await this.jobs.send([...jobs, ...letters])]);
    return jobs.length;
  }

  /** Workers with a heartbeat within `silentMs`, and what is being computed. */
  async crew(silentMs: number): Promise<Crew> {
    const living = "select count(*)::int as count from lab.worker where beat > now() - $1 * interval '1 ms'";
    const [[{ count }], claimed] = await this.#executor.run([
      { text: living, values: [silentMs] },
      { text: "select experiment from lab.attempt where ended is null", values: [] },
    ]);
    return { workers: count as number, claimed: new Set(claimed.map((row) => row.experiment as string)) };
  }

  /** Counts of experiments by state, of running attempts, and the workers. */
  async status() {
    const [states, [running], workers] = await this.#executor.run([
      { text: "select state, count(*)::int as count from lab.experiment group by state", values: [] },
      { text: "select count(*)::int as count from lab.attempt where ended is null", values: [] },
      {
        text: "select name, host, pid, can, extract(epoch from now() - beat)::int as silent from lab.worker order by name",
        values: [],
      },
    ]);
    const counts = Object.fromEntries(states.map(({ state, count }) => [state, count])) as Record<
      string,
      number
    >;
    return { counts, running: running.count as number, workers };
  }
}

function push(map: Map<string, string[]>, key: string, item: string): void {
  const list = map.get(key);
  if (list) list.push(item);
  else map.set(key, [item]);
}
