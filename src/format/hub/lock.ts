/**
 * One process at a time downloads a file; the others wait and then find it complete. A lock is a file that names its
 * holder and whose time stamp moves while the holder is alive. A dead holder's lock is taken over at once if its
 * process is gone from this machine, otherwise after a minute without a sign. A holder that was only suspended notices
 * this before it writes again. (Node has no flock; proper-lockfile waits after every kill because it does not look for
 * the process.)
 */
import { randomBytes } from "node:crypto";
import { readlinkSync } from "node:fs";
import { open, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { NibbleError, throwIfAborted } from "../errors.ts";
import { parseJson } from "../json.ts";
import { makeFolder } from "../make-folder.ts";
import { besideName, diskError } from "./disk.ts";

const BEAT_MS = 5000;
const SILENT_MS = 60_000;
const POLL_MS = 250;

export interface LockOptions {
  readonly signal?: AbortSignal;
  /** Called repeatedly while another process holds the lock. */
  readonly onWait?: (holder: string) => void | Promise<void>;
  /** How long a holder may give no sign of life. For tests. */
  readonly silentMs?: number;
}

/** Takes the lock at `path` once it is free. Throws AbortedError, or NibbleError "io" if it cannot be written. */
export async function takeLock(path: string, options: LockOptions = {}): Promise<Lock> {
  const { signal, onWait, silentMs = SILENT_MS } = options;
  const content = JSON.stringify({
    machine: machine(),
    pid: process.pid,
    id: randomBytes(8).toString("hex"),
  });
  /** The holder's last sign of life and when we saw it by our clock: the file's time may be another machine's. */
  let sign = "";
  let signAt = 0;
  for (;;) {
    throwIfAborted(signal, "waiting for another download");
    if (await create(path, content)) return new Lock(path, content);
    const held = await look(path);
    if (held === null) continue;
    if (held.sign !== sign) {
      sign = held.sign;
      signAt = performance.now();
    }
    if (isGone(held.content) || performance.now() - signAt > silentMs) {
      await takeAway(path, held.content);
      continue;
    }
    await onWait?.(holderOf(held.content));
    await sleep(POLL_MS, undefined, { signal }).catch(() => {});
  }
}

export class Lock {
  readonly #path: string;
  readonly #content: string;
  readonly #timer: NodeJS.Timeout;
  #beatAt = performance.now();
  #lost = false;

  constructor(path: string, content: string) {
    this.#path = path;
    this.#content = content;
    this.#timer = setInterval(() => this.#beat().catch(() => {}), BEAT_MS).unref();
  }

  /** Throws if another process has taken over, which can happen after a long silence of ours. Usually free. */
  async check(): Promise<void> {
    if (performance.now() - this.#beatAt > 3 * BEAT_MS) await this.#beat();
    if (this.#lost)
      throw new NibbleError(
        "io",
        "another process has taken over this download while this one was suspended",
      );
  }

  /** Like `check`, but always looks at the file. */
  async confirm(): Promise<void> {
    await this.#beat();
    await this.check();
  }

  async #beat(): Promise<void> {
    const held = await look(this.#path);
    if (held?.content !== this.#content) this.#lost = true;
    else await utimes(this.#path, new Date(), new Date());
    this.#beatAt = performance.now();
  }

  async release(): Promise<void> {
    clearInterval(this.#timer);
    const held = await look(this.#path).catch(() => null);
    if (held?.content === this.#content) await rm(this.#path, { force: true }).catch(() => {});
  }
}

async function create(path: string, content: string): Promise<boolean> {
  try {
    makeFolder(dirname(path));
    const file = await open(path, "wx");
    try {
      await file.writeFile(content);
    } finally {
      await file.close();
    }
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw diskError(path, cause);
  }
}

/** The holder, and a text that changes with each sign of life; null: the lock is free. */
async function look(path: string): Promise<{ content: string; sign: string } | null> {
  try {
    const { mtimeMs } = await stat(path);
    const content = await readFile(path, "utf8");
    return { content, sign: `${content} ${mtimeMs}` };
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw diskError(path, cause);
  }
}

/** Removes a dead holder's lock and no other: another waiter may have been faster and hold it already. */
async function takeAway(path: string, content: string): Promise<void> {
  const aside = besideName(path);
  try {
    await rename(path, aside);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return;
    throw diskError(path, cause);
  }
  // A holder that lost its lock by mistake notices at its next check, so restoring it need not succeed.
  if ((await readFile(aside, "utf8")) !== content) await rename(aside, path);
  else await rm(aside, { force: true });
}

interface Holder {
  machine?: unknown;
  pid?: unknown;
}

function parse(content: string): Holder | null {
  try {
    return parseJson(content, "lock") as Holder | null;
  } catch {
    // Just created and not written yet, or written by something else.
    return null;
  }
}

/** Its process ran on this machine and no longer exists. */
function isGone(content: string): boolean {
  const holder = parse(content);
  if (holder?.machine !== machine() || typeof holder.pid !== "number") return false;
  try {
    process.kill(holder.pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}

function holderOf(content: string): string {
  const holder = parse(content);
  if (!holder) return "another process";
  return holder.machine === machine() ? `process ${holder.pid}` : `process ${holder.pid} on another machine`;
}

/** This machine and, on Linux, this container: containers number their processes separately. */
function machine(): string {
  try {
    return `${hostname()} ${readlinkSync("/proc/self/ns/pid")}`;
  } catch {
    return hostname();
  }
}
