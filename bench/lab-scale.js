/**
 * How far one Postgres scales for a lab: workers with a connection each claim and record experiments of zero length as
 * fast as they can, for some seconds. `node bench/lab-scale.js [--workers 1,10,100,1000] [--seconds 10] [--waiting
 * 5000] [--url URL]`; without a URL it starts its own server, with its disk's fsync. Prints a row for each number of
 * workers.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import pg from "pg";
import { identified, normalSpec, openBook } from "../dist/lab.js";
import { zeroLab } from "../test/lab/zero-lab.js";
import { zeroResult } from "../test/lab/zero-runner.js";
import { postgresPrograms, startPostgres } from "./lab-trial.js";

const SELF = fileURLToPath(import.meta.url);
/** Processes that share the workers: one event loop cannot stand for a thousand machines. */
const PROCESSES = 4;

/** A process with `workers` workers, each with a connection: counts and times of their calls. */
async function play({ url, workers, seconds }) {
  const book = await openBook(url, { connections: workers, retrySeconds: 0 });
  const [claims, records] = [[], []];
  let replicates = 0;
  let isOver = false;
  const loop = async (name) => {
    while (!isOver) {
      const began = performance.now();
      const claim = await book.claim(name, []);
      const got = performance.now();
      if (!claim) return;
      const kept = await book.record(claim, zeroResult(claim.id));
      if (isOver) return;
      if (kept === "replicate") replicates++;
      claims.push(got - began);
      records.push(performance.now() - got);
    }
  };
  // All connections are made before the measurement starts.
  await Promise.all(Array.from({ length: workers }, () => book.store.status()));
  process.send("ready");
  await once(process, "message");
  setTimeout(() => {
    isOver = true;
  }, seconds * 1000);
  await Promise.all(Array.from({ length: workers }, (_, i) => loop(`${process.pid}:${i}`)));
  process.send({ claims, records, replicates });
  await book.close();
}

const quantile = (sorted, share) =>
  sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;

async function main() {
  const { values } = parseArgs({
    options: {
      workers: { type: "string", default: "1,4,16,64,250,1000" },
      seconds: { type: "string", default: "10" },
      waiting: { type: "string", default: "5000" },
      url: { type: "string" },
    },
  });
  const seconds = Number(values.seconds);
  const server = values.url
    ? null
    : await startPostgres(postgresPrograms(), ["max_connections=1100", "shared_buffers=512MB"]);
  const url = values.url ?? server.url;
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  const sql = async (text) => (await pool.query(text)).rows;
  const lab = zeroLab({ identified, normalSpec });
  const book = await openBook(url);
  let draws = 0;
  const counters = async () => {
    const text = `select deadlocks::int, xact_commit::int as commits, xact_rollback::int as rollbacks
      from pg_stat_database where datname = current_database()`;
    return (await sql(text))[0];
  };
  for (const workers of values.workers.split(",").map(Number)) {
    // The queue is the same at each start.
    const waiting = (await book.store.status()).counts.waiting ?? 0;
    const missing = Math.max(0, Number(values.waiting) - waiting);
    await book.add(lab.entries(missing, draws));
    draws += missing;
    const processes = Math.min(PROCESSES, workers);
    const children = Array.from({ length: processes }, (_, i) => {
      const share = Math.floor(workers / processes) + (i < workers % processes ? 1 : 0);
      return fork(SELF, ["play", JSON.stringify({ url, workers: share, seconds })]);
    });
    await Promise.all(children.map((child) => once(child, "message")));
    const before = await counters();
    const answers = children.map((child) => once(child, "message"));
    for (const child of children) child.send("go");
    // What backends wait for, at half time.
    await new Promise((resolve) => setTimeout(resolve, seconds * 500));
    const waits = await sql(
      `select coalesce(wait_event_type || ' ' || wait_event, 'runs') as on, count(*)::int from pg_stat_activity
        where state in ('active', 'idle in transaction') and pid <> pg_backend_pid() group by 1 order by 2 desc limit 4`,
    );
    const told = (await Promise.all(answers)).map(([answer]) => answer);
    const after = await counters();
    const all = (key) => told.flatMap((answer) => answer[key]).sort((a, b) => a - b);
    const [claims, records] = [all("claims"), all("records")];
    const row = {
      ...{ workers, perSecond: Math.round(claims.length / seconds) },
      claimMs: [0.5, 0.99].map((share) => Number(quantile(claims, share).toFixed(1))),
      recordMs: [0.5, 0.99].map((share) => Number(quantile(records, share).toFixed(1))),
      replicates: told.reduce((sum, { replicates }) => sum + replicates, 0),
      deadlocks: after.deadlocks - before.deadlocks,
      rollbacks: after.rollbacks - before.rollbacks,
      waits: waits.map(({ on, count }) => `${count} ${on}`).join(", "),
    };
    console.log(JSON.stringify(row));
  }
  const [{ results, twice }] = await sql(
    `select count(*)::int as results, (select count(*)::int from lab.attempt a join lab.attempt b
      on a.experiment = b.experiment and a.id < b.id) as twice from lab.result`,
  );
  console.log(JSON.stringify({ results, experimentsAttemptedTwice: twice }));
  await book.close();
  await pool.end();
  await server?.stop();
}

if (process.argv[2] === "play") await play(JSON.parse(process.argv[3]));
else await main();
