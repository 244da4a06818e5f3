/**
 * Trials of a lab's shared memory: experiments of zero length and several worker processes, with failures on the way:
 * the owner of the folder, or the Postgres server, dies several times; a worker dies in the middle of an experiment;
 * and one experiment always fails. `node bench/lab-trial.js [experiments] [folder|postgres]` runs them in full;
 * test/lab/trial.test.ts runs them with fewer experiments.
 */
import { fork, spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { chown, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import {
  fromLines,
  identified,
  JOURNAL,
  lookAtLock,
  normalSpec,
  openBook,
  rebuildFolder,
} from "../dist/lab.js";
import { zeroLab } from "../test/lab/zero-lab.js";

/** Draws: the first always fails, the second hangs the first time. */
export const TRIAL = { poison: 0, hanging: 1 };

const WORKER = fileURLToPath(new URL("./lab-worker.js", import.meta.url));

/**
 * where: folder or URL. entries: experiments that need "trial", one more than `experiments`, and the entries that they
 * require. outage(n): causes the n-th one, or returns the worker that is to be killed. Resolves with the results, read
 * from the lab after all workers have ended.
 */
export async function trial({ where, entries, experiments, poison, hanging, outages, outage, workers = 3 }) {
  const options = { beatMs: 200, silentMs: 2000, retrySeconds: 0 };
  const ids = new Set(entries.filter(({ kind }) => kind === "experiment").map(({ id }) => id));
  const ours = (map) => [...map.keys()].filter((id) => ids.has(id)).length;
  const deadOf = (snapshot) => [...ids].filter((id) => snapshot.state(id) === "dead");
  const open = async (use) => {
    const book = await openBook(where, options);
    try {
      return await use(book);
    } finally {
      await book.close();
    }
  };
  // A folder's owner must be one of the workers, so that it can be killed: this process opens it only before and after.
  await open((book) => book.add(entries));
  const watch = where.startsWith("postgres") ? await openBook(where, options) : null;
  const done = async () =>
    watch ? ours((await watch.snapshot()).results) : resultsOfJournal(join(where, JOURNAL), ids);
  const began = performance.now();
  const running = new Set();
  /** @type {import("node:child_process").ChildProcess | null} */
  let hung = null;
  const start = () =>
    new Promise((resolve, reject) => {
      const told = JSON.stringify({ ...options, poison, hanging });
      const child = fork(WORKER, [where, told], { stdio: "inherit" });
      running.add(child);
      child.on("message", ({ ready, hangs }) => {
        if (ready) resolve(child);
        if (hangs) hung ??= child;
      });
      child.on("exit", (code) => {
        running.delete(child);
        reject(new Error(`a worker ended with exit code ${code}`));
      });
    });
  const replace = async (victim) => {
    await kill(victim);
    await start();
  };
  await Promise.all(Array.from({ length: workers }, start));
  await until(() => hung !== null);
  await replace(hung);
  for (let n = 1; n <= outages; n++) {
    await until(async () => (await done()) >= (experiments * n) / (outages + 2));
    const victim = await outage(n, running);
    if (victim) await replace(victim);
  }
  await until(async () => (await done()) >= experiments);
  await watch?.close();
  // The failing experiment may have tries left.
  await open((book) => until(async () => deadOf(await book.snapshot()).length === 1));
  const seconds = (performance.now() - began) / 1000;
  const ended = [...running].map((child) => new Promise((resolve) => child.on("exit", resolve)));
  for (const child of running) child.kill("SIGTERM");
  await Promise.all(ended);
  return open(async (book) => {
    const snapshot = await book.snapshot();
    const failures = [...ids].flatMap((id) => snapshot.failures.get(id) ?? []);
    return {
      results: ours(snapshot.results),
      replicates: ours(snapshot.replicates),
      lost: failures.filter(({ outcome }) => outcome === "lost").length,
      deadLetters: (await book.store.jobs.deadLetters()).filter((id) => ids.has(id)),
      dead: deadOf(snapshot),
      seconds,
    };
  });
}

async function until(condition) {
  while (!(await condition())) await sleep(20);
}

/** The complete lines of the file of a running owner. */
async function resultsOfJournal(file, ids) {
  const results = fromLines(await readFile(file, "utf8"), file).filter(({ kind }) => kind === "result");
  return results.filter(({ experiment }) => ids.has(experiment)).length;
}

async function kill(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.on("exit", resolve));
  child.kill("SIGKILL");
  await ended;
}

/** The worker that owns the folder; waits until there is one. */
export async function ownerOf(folder, running) {
  for (;;) {
    const holder = await lookAtLock(folder);
    const owner = holder?.socket && [...running].find(({ pid }) => pid === holder.pid);
    if (owner) return owner;
    await sleep(20);
  }
}

/** The folder of Postgres's programs; null: it is not installed. */
export function postgresPrograms() {
  const found = spawnSync("pg_config", ["--bindir"], { encoding: "utf8" }).stdout?.trim();
  const roots = existsSync("/usr/lib/postgresql") ? readdirSync("/usr/lib/postgresql") : [];
  const folders = [
    found,
    ...roots
      .sort()
      .reverse()
      .map((version) => `/usr/lib/postgresql/${version}/bin`),
  ];
  return folders.find((folder) => folder && existsSync(join(folder, "initdb"))) ?? null;
}

/**
 * A separate server in a temporary folder, reached by a socket there. Root starts it as the user postgres or nobody.
 */
export async function startPostgres(programs, settings = []) {
  const folder = await mkdtemp(join(tmpdir(), "lab-pg-"));
  let user = [];
  if (process.getuid?.() === 0) {
    const id = (name) => spawnSync("id", ["-u", name], { encoding: "utf8" }).stdout.trim();
    const name = id("postgres") ? "postgres" : "nobody";
    await chown(folder, Number(id(name)), -1);
    user = ["runuser", "-u", name, "--"];
  }
  const run = (program, ...args) => {
    const [command, ...rest] = [...user, join(programs, program), ...args];
    const { status, stderr, error } = spawnSync(command, rest, {
      ...{ encoding: "utf8", cwd: folder, stdio: ["ignore", "ignore", "pipe"] },
    });
    if (status !== 0) throw new Error(`${program}: ${error?.message ?? stderr}`);
  };
  const data = join(folder, "data");
  run("initdb", "-D", data, "-U", "lab", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C");
  const flags = ["listen_addresses=", `unix_socket_directories=${folder}`, ...settings];
  const control = (...args) =>
    run("pg_ctl", "-D", data, "-w", "-t", "120", "-l", join(folder, "log"), ...args);
  const start = () => control("-o", flags.map((flag) => `-c ${flag}`).join(" "), "start");
  start();
  const url = (name) => `postgres://lab@/${name}?host=${encodeURIComponent(folder)}`;
  return {
    url: url("postgres"),
    /** The URL of a new database. */
    database(name) {
      run("createdb", "-h", folder, "-U", "lab", name);
      return url(name);
    },
    /** Like a power cut. */
    crash() {
      control("-m", "immediate", "stop");
      start();
    },
    async stop() {
      control("-m", "immediate", "stop");
      await rm(folder, { recursive: true, force: true });
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const experiments = Number(process.argv[2] ?? 200);
  const which = process.argv[3];
  const entries = zeroLab({ identified, normalSpec }).entries(experiments + 1, 0, ["trial"]);
  const common = { entries, experiments, ...TRIAL, outages: 4 };
  if (which !== "postgres") {
    const where = await mkdtemp(join(tmpdir(), "lab-trial-"));
    const result = await trial({ where, ...common, outage: (_, running) => ownerOf(where, running) });
    console.log("owner killed 4 times:", JSON.stringify(result));
    console.log("rebuilt from the journal, entries:", (await rebuildFolder(where)).entries);
    await rm(where, { recursive: true });
  }
  if (which !== "folder") {
    const programs = postgresPrograms();
    if (!programs) throw new Error("PostgreSQL is not installed");
    const server = await startPostgres(programs);
    const where = server.url;
    const result = await trial({ where, ...common, outage: () => void server.crash() });
    console.log("Postgres restarted 4 times:", JSON.stringify(result));
    await server.stop();
  }
}
