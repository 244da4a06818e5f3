/**
 * One thread that compiles grammars and follows texts (`worker.js`): decides what it is asked next, and when it ends. The
 * one idea: one request at a time is under way, so a time limit counts work and not waiting, and when the thread ends it
 * is known which request caused it: the others are lost, and can go to another thread.
 */
import { Worker } from "node:worker_threads";
import type { Grammar } from "./grammar.ts";
import type { GrammarVocabulary } from "./vocabulary.ts";

/** start: compile, and follow the tokens so far; step: follow one more. Both return what may come next. */
export type Question =
  | { kind: "start"; matcher: number; grammar: Grammar; ids: readonly number[] }
  | { kind: "step"; matcher: number; token: number };

export interface KeeperAnswer {
  /** A bit for each token that may come next; null: the text is complete. */
  readonly mask: Int32Array | null;
  /** The time that the work took. */
  readonly ms: number;
}

/** The thread could not do it because of this grammar. */
export class Failed extends Error {}
/** The thread ended because of another request. */
export class Lost extends Error {}
/** The matcher was closed. */
export class Closed extends Error {}

export interface KeeperLimits {
  /** For one request. */
  readonly ms: number;
  /** What the library may take in addition to the vocabulary. */
  readonly bytes: number;
}

interface Asked {
  readonly question: Question;
  resolve(answer: KeeperAnswer): void;
  reject(error: Error): void;
}

type Reply = { isReady: true } | { mask: Int32Array | null; ms: number } | { failed: string };

/** Most time to read the vocabulary, on a busy machine. */
const MOST_START_MS = 60_000;
/** For work whose result is no longer needed: less than a new thread takes to start. */
const MOST_UNWANTED_MS = 1000;

export class Keeper {
  readonly #worker: Worker;
  readonly #limits: KeeperLimits;
  #isReady = false;
  #isEnded = false;
  #late: NodeJS.Timeout | undefined;
  #underWay: Asked | null = null;
  #steps: Asked[] = [];
  #starts: Asked[] = [];
  /** Steps to do before the next start: those that waited when the last one was taken. */
  #before = 0;
  /** Open matchers. */
  readonly #matchers = new Set<number>();
  #last = 0;

  constructor(vocabulary: GrammarVocabulary, limits: KeeperLimits) {
    this.#limits = limits;
    this.#worker = new Worker(new URL("./worker.js", import.meta.url), {
      workerData: { ...vocabulary, mostGrowth: limits.bytes },
      // Output of the library is discarded.
      stdout: true,
      stderr: true,
      execArgv: [],
      // It makes many short-lived objects while it reads the vocabulary.
      resourceLimits: { maxYoungGenerationSizeMb: 4 },
    });
    this.#worker.on("message", (reply: Reply) => this.#hear(reply));
    this.#worker.on("error", (error) => this.end(error.message));
    this.#worker.on("exit", () => this.end("its thread ended"));
    this.#worker.unref();
    this.#limit(MOST_START_MS);
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Matchers that are open. */
  get matchers(): number {
    return this.#matchers.size;
  }

  /** Returns the number of a new matcher. */
  open(): number {
    this.#matchers.add(++this.#last);
    return this.#last;
  }

  /** Rejects with Failed, Lost, or Closed. */
  ask(question: Question): Promise<KeeperAnswer> {
    if (this.#isEnded) return Promise.reject(new Lost());
    return new Promise((resolve, reject) => {
      (question.kind === "step" ? this.#steps : this.#starts).push({ question, resolve, reject });
      this.#next();
      this.#holdProcess();
    });
  }

  /** All requests for this matcher are given up. */
  close(matcher: number): void {
    if (!this.#matchers.delete(matcher) || this.#isEnded) return;
    const isOther = ({ question, reject }: Asked) => {
      if (question.matcher !== matcher) return true;
      reject(new Closed());
      return false;
    };
    this.#steps = this.#steps.filter(isOther);
    this.#starts = this.#starts.filter(isOther);
    this.#worker.postMessage({ kind: "free", matcher });
    // The result of this work is no longer needed.
    if (this.#underWay && !isOther(this.#underWay) && this.#matchers.size === 0)
      this.#limit(MOST_UNWANTED_MS);
    this.#holdProcess();
  }

  /** The request under way fails with this reason; all others are lost. */
  end(reason: string): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    clearTimeout(this.#late);
    void this.#worker.terminate();
    this.#underWay?.reject(new Failed(reasonOf(reason)));
    for (const { reject } of [...this.#steps, ...this.#starts]) reject(new Lost());
  }

  #hear(reply: Reply): void {
    if (this.#isEnded) return;
    clearTimeout(this.#late);
    if ("isReady" in reply) this.#isReady = true;
    else if ("failed" in reply) return this.end(reply.failed);
    else this.#underWay?.resolve(reply);
    this.#underWay = null;
    this.#next();
    this.#holdProcess();
  }

  /** The process stays alive while an answer is awaited, and can end otherwise. */
  #holdProcess(): void {
    const isAsked = this.#underWay !== null || this.#steps.length + this.#starts.length > 0;
    if (isAsked) this.#worker.ref();
    else this.#worker.unref();
  }

  #next(): void {
    if (!this.#isReady || this.#underWay) return;
    const isStart = this.#starts.length > 0 && (this.#before <= 0 || this.#steps.length === 0);
    const next = isStart ? this.#starts.shift() : this.#steps.shift();
    if (!next) return;
    this.#before = isStart ? this.#steps.length : this.#before - 1;
    this.#underWay = next;
    this.#limit(this.#limits.ms);
    this.#worker.postMessage(next.question);
  }

  #limit(ms: number): void {
    clearTimeout(this.#late);
    this.#late = setTimeout(() => this.end(`it took longer than ${ms / 1000} seconds`), ms);
    this.#late.unref();
  }
}

/** "[FATAL] /path/file.cc:902: Unsupported type", "Aborted()": only the message itself is of interest. */
function reasonOf(text: string): string {
  const [line] = text.split("\n").filter((line) => line.trim() !== "");
  const said = (line ?? "unknown")
    .replace(/^\[\w+\] \S+:\d+: /, "")
    .replace(/^Check failed: .*? is false: /, "");
  return said.length > 200 ? `${said.slice(0, 197)}...` : said;
}
