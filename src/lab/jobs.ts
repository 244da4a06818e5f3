/**
 * The queue: pg-boss says which experiment is next, after the pause of a failed one, and holds dead letters. It holds nothing
 * that is not in our rows, and can be rebuilt from them. Its statements are taken from it instead of being run by it (its `db`
 * option), so that they take part in one unit with ours. Its timers are off: dead workers are found by `sweep` (store.ts). Only
 * this file uses pg-boss (10.4.2; 12 has the same calls and wants Node 22).
 */
import type PgBoss from "pg-boss";
import { type Executor, optional, type Row, type Statement } from "./executor.ts";
import { sha256 } from "./hash.ts";
import type { ProposalEntry } from "./types.ts";

const SCHEMA = "lab_jobs";
const DEAD = "lab-dead";

/** Waiting jobs up to this far in the future: experiments have no date. */
const KEEP_UNTIL = new Date("9999-01-01T00:00:00Z");

export interface Job {
  readonly experiment: string;
  readonly queue: string;
  readonly priority: number;
  /** Consecutive failures before: the pause grows with each. */
  readonly failures?: number;
}

/** An experiment's job id never changes, so that sending it twice has the effect of sending it once. */
function jobId(experiment: string): string {
  const hex = sha256(experiment).slice(0, 32);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** A study's experiments with the same requirements: workers take from studies in rotation. */
export function queueName({ needs, study }: Pick<ProposalEntry, "needs" | "study">): string {
  return `lab-${sha256(JSON.stringify([[...needs].sort(), study])).slice(0, 16)}`;
}

export class Jobs {
  readonly #boss: PgBoss;
  readonly #executor: Executor;
  readonly #retrySeconds: number;

  private constructor(boss: PgBoss, executor: Executor, retrySeconds: number) {
    this.#boss = boss;
    this.#executor = executor;
    this.#retrySeconds = retrySeconds;
  }

  /** `retrySeconds`: pause before a failed experiment is tried again, doubled with each failure; 0: none. */
  static async open(executor: Executor, retrySeconds: number): Promise<Jobs> {
    const { default: Boss } = await optional("pg-boss", () => import("pg-boss"));
    const boss = new Boss({
      schema: SCHEMA,
      supervise: false,
      schedule: false,
      db: {
        executeSql: async (text, values) => {
          const rows = (await executor.run([values ? { text, values } : { text }])).at(-1);
          return { rows: rows as Row[] };
        },
      },
    });
    boss.on("error", () => {});
    return new Jobs(boss, executor, retrySeconds);
  }

  /** Creates or migrates pg-boss's own tables. */
  async prepare(): Promise<void> {
    await this.#boss.start();
    // In the order in which jobs are fetched: without it each fetch sorts all that wait. 20,000 waiting, 4 workers: a claim
    // 61 -> 13 ms, Postgres 15 on 2 loaded cores, 2026-11-28, bench/lab-scale.js. Its existence is checked first, since creating
    // it blocks writers.
    const made = `select to_regclass('${SCHEMA}.lab_next')::text as name`;
    const [[{ name }]] = await this.#executor.run([{ text: made }]);
    const columns = "(name, priority desc, created_on, id)";
    const make = `create index if not exists lab_next on ${SCHEMA}.job ${columns} where state < 'active'`;
    if (name === null) await this.#executor.run([{ text: make }]);
    await this.#boss.createQueue(DEAD);
  }

  async makeQueue(name: string): Promise<void> {
    await this.#boss.createQueue(name);
  }

  /** Gives the next job of a queue: its id, and `data` with the experiment. The queue's name is the first value. */
  take(queue: string): Promise<Statement> {
    return collect((db) => this.#boss.fetch(queue, { db, batchSize: 1 } as PgBoss.FetchOptions));
  }

  /** Experiments that no longer wait, and are no dead letters. */
  remove(queue: string, experiments: readonly string[]): Promise<Statement[]> {
    const ids = experiments.map(jobId);
    return Promise.all([queue, DEAD].map((name) => collect((db) => this.#boss.deleteJob(name, ids, { db }))));
  }

  send(jobs: readonly Job[]): Promise<Statement> {
    const rows = jobs.map(({ experiment, queue, priority, failures = 0 }) => ({
      id: jobId(experiment),
      name: queue,
      data: { experiment },
      priority,
      ...(failures > 0 && { startAfter: String(this.#retrySeconds * 2 ** (failures - 1)) }),
      // We decide whether it is retried, in the unit that records its failure.
      retryLimit: 0,
      keepUntil: KEEP_UNTIL,
    }));
    return collect((db) => this.#boss.insert(rows as PgBoss.JobInsert[], { db } as PgBoss.InsertOptions));
  }

  deadLetter(experiment: string): Job {
    return { experiment, queue: DEAD, priority: 0 };
  }

  /** Deletes all jobs, dead letters too, except those that are active. */
  clear(): Statement {
    const open = "select job from lab.attempt where ended is null";
    return { text: `delete from ${SCHEMA}.job where id not in (${open})`, values: [] };
  }

  /** Removes pg-boss's tables. */
  forget(): Statement {
    return { text: `drop schema ${SCHEMA} cascade`, values: [] };
  }

  /** Experiments among the dead letters. */
  async deadLetters(): Promise<string[]> {
    const text = `select data->>'experiment' as experiment from ${SCHEMA}.job where name = $1 order by 1`;
    const [rows] = await this.#executor.run([{ text, values: [DEAD] }]);
    return rows.map(({ experiment }) => experiment as string);
  }
}

/** The one statement that a call of pg-boss would run. The call gets the result that one row was affected. */
async function collect(call: (db: PgBoss.Db) => Promise<unknown>): Promise<Statement> {
  let statement: Statement | null = null;
  await call({
    executeSql: async (text, values) => {
      statement = { text, values };
      return { rows: [{ count: 1 }] } as never;
    },
  });
  if (statement === null) throw new Error("pg-boss ran no statement");
  return statement;
}
