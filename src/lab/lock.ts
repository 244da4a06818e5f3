/**
 * One process holds a lab's folder. Its lock is the file with the largest number in `owner/`: it names the process, and
 * how others reach it. A lock is taken over only from a process that is gone or has given it back, never by age: a
 * process that computes or is paused gives no sign of life, and two that open one database folder destroy it.
 * Numbers only rise, and a file is created complete and exclusively (`link`), so that of many processes that find a dead holder
 * one wins, however long any of them sleeps between two steps.
 */
import { randomUUID } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { link, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { NibbleError } from "../format/errors.ts";
import { makeFolder } from "../format/make-folder.ts";

/** What holds a lab's folder. */
export interface Holder {
  /** "journal": one process alone, over the journal; "database": others may join at `socket`. */
  readonly mode: "journal" | "database";
  /** This machine, and in Linux this container: their processes have numbers of their own. */
  readonly machine: string;
  readonly pid: number;
  /** Distinguishes processes that had the same pid one after the other; "" where the system does not report it. */
  readonly started: string;
  readonly socket?: string;
  readonly token?: string;
  /** Number of the newest migration: a process with another version must not join. */
  readonly schema?: number;
  readonly released?: boolean;
}

/** Another process holds the lab. */
export class LockedError extends NibbleError {
  constructor(
    readonly folder: string,
    readonly holder: Holder,
  ) {
    const who = `process ${holder.pid}${holder.machine === machine() ? "" : ` of ${holder.machine.split(" ")[0]}`}`;
    const wayOut =
      holder.mode === "journal"
        ? "it runs alone; stop it, or start it with --workers 2 so that others can join"
        : "join it with `nibble lab work`, or stop it";
    const gone =
      holder.machine === machine()
        ? ""
        : `; if that machine is gone for good, delete ${join(folder, "owner")}`;
    super("io", `the lab in ${folder} is held by ${who}: ${wayOut}${gone}`);
  }

  get isThisMachine(): boolean {
    return this.holder.machine === machine();
  }
}

export class LabLock {
  readonly #folder: string;
  readonly #number: number;
  #holder: Holder;

  constructor(folder: string, number: number, holder: Holder) {
    this.#folder = folder;
    this.#number = number;
    this.#holder = holder;
  }

  /** How many times this folder was taken: names what belongs to one holder, such as a socket. */
  get number(): number {
    return this.#number;
  }

  /** Adds to what others can read of this holder, such as where they reach it. */
  async publish(more: Partial<Holder>): Promise<void> {
    this.#holder = { ...this.#holder, ...more };
    await replace(fileOf(this.#folder, this.#number), this.#holder);
  }

  async release(): Promise<void> {
    await this.publish({ released: true }).catch(() => {});
  }
}

/** Takes the lab in `folder`. LockedError while a process that may live holds it. */
export async function takeLabLock(folder: string, mode: Holder["mode"]): Promise<LabLock> {
  makeFolder(join(folder, "owner"), 0o700);
  for (;;) {
    const newest = await newestLock(folder);
    if (newest?.holder && isHeld(newest.holder)) throw new LockedError(folder, newest.holder);
    const number = (newest?.number ?? 0) + 1;
    const holder: Holder = {
      mode,
      machine: machine(),
      pid: process.pid,
      started: startOf(process.pid) ?? "",
    };
    if (!(await create(fileOf(folder, number), holder))) continue;
    // A process that slept after it looked has created a file with an old number: later processes hold higher ones.
    if ((await newestLock(folder))?.number !== number) {
      await rm(fileOf(folder, number), { force: true });
      continue;
    }
    await removeBelow(folder, number);
    return new LabLock(folder, number, holder);
  }
}

/** The present holder of the lab; null: none. */
export async function lookAtLock(folder: string): Promise<Holder | null> {
  const newest = await newestLock(folder);
  return newest?.holder && isHeld(newest.holder) ? newest.holder : null;
}

function isHeld(holder: Holder): boolean {
  return holder.released !== true && !isGone(holder);
}

const fileOf = (folder: string, number: number) => join(folder, "owner", `${number}.json`);

async function newestLock(folder: string): Promise<{ number: number; holder: Holder | null } | null> {
  for (;;) {
    const names = await readdir(join(folder, "owner")).catch(() => [] as string[]);
    const numbers = names.flatMap((name) => (/^\d+\.json$/.test(name) ? [Number.parseInt(name, 10)] : []));
    if (numbers.length === 0) return null;
    const number = Math.max(...numbers);
    try {
      return { number, holder: JSON.parse(await readFile(fileOf(folder, number), "utf8")) };
    } catch (error) {
      // A higher number came, and this file was deleted. A file that cannot be read for another reason has no holder: files are
      // complete from the start.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") return { number, holder: null };
    }
  }
}

/** false: the file exists. */
async function create(path: string, holder: Holder): Promise<boolean> {
  const whole = `${path}.${randomUUID()}`;
  try {
    await writeFile(whole, JSON.stringify(holder), { mode: 0o600 });
    await link(whole, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw new NibbleError("io", `${path} cannot be made: ${(error as Error).message}`, { cause: error });
  } finally {
    await rm(whole, { force: true });
  }
}

async function replace(path: string, holder: Holder): Promise<void> {
  const whole = `${path}.${randomUUID()}`;
  await writeFile(whole, JSON.stringify(holder), { mode: 0o600 });
  await rename(whole, path);
}

async function removeBelow(folder: string, number: number): Promise<void> {
  for (const name of await readdir(join(folder, "owner"))) {
    const other = /^(\d+)\.(json|sock)$/.exec(name);
    if (other && Number.parseInt(other[1], 10) < number)
      await rm(join(folder, "owner", name), { force: true });
  }
}

/** Its process ran on this machine and has ended. Processes of other machines cannot be seen, so they count as alive. */
function isGone(holder: Holder): boolean {
  if (holder.machine !== machine()) return false;
  const started = startOf(holder.pid);
  return started === null || (holder.started !== "" && started !== "" && holder.started !== started);
}

/** When a process started, as the system reports it; "": it runs, but its start is unknown; null: it does not run. */
function startOf(pid: number): string | null {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return null;
  }
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // A zombie has ended; only its parent has not asked for it yet.
    if (fields[0] === "Z" || fields[0] === "X") return null;
    return `${readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()} ${fields[19]}`;
  } catch {
    return "";
  }
}

function machine(): string {
  try {
    return `${hostname()} ${readlinkSync("/proc/self/ns/pid")}`;
  } catch {
    return hostname();
  }
}
