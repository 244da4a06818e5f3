/**
 * `nibble lab run`: one process that proposes, runs and records, shows the best so far, and writes the report. It ends
 * after its time, its count, or when nothing is left; the second half of its time confirms what is best. Ctrl-C keeps what is
 * recorded, and writes the report as well.
 */
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { AbortedError, ArgumentError, NibbleError } from "../index.ts";
import {
  Backlog,
  type Book,
  checkStudy,
  childOf,
  type Entry,
  type LabBook,
  LEAD_TOKENS,
  LlmProposer,
  LlmTurns,
  type Methods,
  makeLabFolder,
  openRunner,
  Proposer,
  type RunnerOptions,
  type Study,
  type StudyFile,
  setUp,
  swarm,
  type WorkEvent,
  work,
} from "../lab.ts";
import { write } from "./interrupt.ts";
import { type LabOptions, withBook } from "./lab-open.ts";
import { writeReportOf } from "./lab-report.ts";
import { SoFar } from "./lab-so-far.ts";
import { bestOf, scoreLines } from "./lab-verbs.ts";
import { printable } from "./terminal.ts";

export interface LabRunOptions extends LabOptions, Pick<RunnerOptions, "device" | "threads" | "offline"> {
  models?: string[];
  /** Milliseconds. */
  for?: number;
  experiments?: number;
  workers?: number;
  /** Base URL of an API like OpenAI's, whose model proposes, too. */
  llm?: string;
  llmModel?: string;
  text?: string;
  holdout?: string;
}

const DEFAULT_MS = 90_000;
/** Share of the time that is kept for confirming the best results on the last rung and on held-out texts. */
const CONFIRMING = 0.5;

export async function runLab(
  study: string | undefined,
  options: LabRunOptions,
  signal: AbortSignal,
): Promise<void> {
  const file = study === undefined ? {} : await readStudy(study);
  const { folder, device, threads, offline, method } = options;
  const books = { book: await bookOf(options.text), holdout: await bookOf(options.holdout) };
  const { workers = 1, db } = options;
  const names = options.models ?? file.models ?? ["needle"];
  const positions = Math.max(0, ...(file.rungs ?? []).map((rung) => rung.positions));
  const ofRunner = {
    device,
    threads,
    offline,
    methods: method,
    context: Math.max(640, positions + LEAD_TOKENS),
  };
  await withBook({ folder, db, shared: workers > 1 }, signal, async (book) => {
    // A lab whose database is elsewhere needs the folder for its report.
    makeLabFolder(folder);
    const runner = await openRunner(names, ofRunner, signal);
    try {
      const { study: plan, entries, leftOut } = await setUp(runner, file, books, signal);
      if (leftOut.length > 0)
        process.stderr.write(
          `nibble: left to --device ${plan.device ? "cpu, as no cache holds it" : "gpu, whose caches they are"}: ${leftOut.join(", ")}\n`,
        );
      await book.add(entries);
      const isGrid = file.specs !== undefined;
      if (isGrid && options.llm !== undefined)
        throw new ArgumentError("llm", options.llm, "a search; this study names its specs");
      const llm = llmOf(options, plan, runner.methods);
      const soFar = new SoFar(book, plan);
      const warn = (text: string) => {
        soFar.clear();
        process.stderr.write(`nibble: ${text}\n`);
      };
      const search = new Search(book, plan, { ...options, llm, warn, isGrid });
      const onEvent = async (event: WorkEvent) => {
        if (event.kind !== "recorded") return;
        const { entry } = event;
        search.recorded++;
        soFar.clear();
        if (entry.kind === "failure")
          warn(`experiment ${entry.experiment.slice(0, 8)} failed: ${entry.error}`);
        if (options.json) await write(`${JSON.stringify(shown(entry))}\n`, signal);
        else await soFar.show(search.recorded);
        await search.look();
      };
      const stop = AbortSignal.any([signal, search.over]);
      const common = {
        book,
        onEvent,
        idle: () => search.idle(stop),
        signal: stop,
      };
      // Each child loads its own models.
      if (workers > 1) await runner.close();
      const done =
        workers > 1
          ? await swarm({ ...common, count: workers, child: childOf(names, ofRunner, workers) })
          : await work({ ...common, runner, can: runner.can });
      soFar.clear();
      const known = await book.snapshot();
      const report = join(folder, "report.html");
      await writeReportOf(known, report, runner.methods);
      throwIfStopped(signal, known.results.size, folder);
      const models = plan.models.map((id) => ({
        name: known.models.get(id)!.name,
        best: bestOf(known, id, { device: plan.device }),
      }));
      if (options.json)
        await write(`${JSON.stringify({ kind: "end", experiments: done, report, models })}\n`, signal);
      else
        await write(
          `${[
            ...models.flatMap(({ name, best }) => [
              `${name}: the best of every size`,
              ...scoreLines(known, best),
              "",
            ]),
            `${done} experiments; ${known.results.size} in ${db ?? folder}. Report: ${report}`,
          ].join("\n")}\n`,
          signal,
        );
    } finally {
      await runner.close();
    }
  });
}

function throwIfStopped(signal: AbortSignal, results: number, folder: string): void {
  if (!signal.aborted) return;
  process.stderr.write(
    `nibble: stopped; ${results} results are kept in ${folder}, and the same command goes on\n`,
  );
  throw new AbortedError("the lab");
}

function llmOf({ llm, llmModel }: LabRunOptions, plan: Study, methods: Methods): LlmTurns | null {
  if (llm === undefined) return null;
  if (!URL.canParse(llm) || !/^https?:/.test(llm))
    throw new ArgumentError("llm", llm, "the base URL of an API, such as http://127.0.0.1:8080/v1");
  const api = { url: llm, model: llmModel, key: process.env.NIBBLE_LLM_KEY };
  return new LlmTurns(new LlmProposer(plan, methods, api));
}

interface SearchOptions extends Pick<LabRunOptions, "experiments" | "for"> {
  readonly llm: LlmTurns | null;
  /** A line for the user, not part of the results. */
  readonly warn: (text: string) => void;
  readonly isGrid: boolean;
}

/** When to propose, when to confirm, when to end. */
class Search {
  readonly #book: LabBook;
  readonly #study: string;
  readonly #proposer: Proposer;
  readonly #backlog = new Backlog();
  readonly #most: number;
  readonly #confirmAt: number;
  readonly #over = new AbortController();
  readonly #llm: LlmTurns | null;
  readonly #warn: (text: string) => void;
  #confirms = false;
  recorded = 0;

  constructor(book: LabBook, study: Study, options: SearchOptions) {
    const { llm, warn, isGrid } = options;
    this.#book = book;
    this.#study = study.name;
    this.#proposer = new Proposer(study);
    this.#llm = llm;
    this.#warn = warn;
    this.#most = options.experiments ?? Number.POSITIVE_INFINITY;
    const ms = options.for ?? (isGrid ? null : DEFAULT_MS);
    this.#confirmAt = ms === null ? Number.POSITIVE_INFINITY : performance.now() + ms * (1 - CONFIRMING);
    if (ms !== null) setTimeout(() => this.#over.abort(), ms).unref();
  }

  /** The time or the count is over: what runs is given back. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** After each record: confirms when it is time, even if other experiments wait; else what may wait now is added. */
  async look(): Promise<void> {
    if (this.recorded >= this.#most) this.#over.abort();
    else if (!this.#confirms && performance.now() >= this.#confirmAt) await this.#confirm();
    else if (!this.#backlog.isEmpty) await this.#fill(0);
  }

  /** Nothing waits: true when there is more. */
  async idle(signal: AbortSignal): Promise<boolean> {
    // What waits does not fit this worker: one more may be added.
    if (!this.#backlog.isEmpty) return this.#fill(1);
    if (this.#confirms) return this.#confirm();
    const known = await this.#book.snapshot();
    const { entries, refused } = (await this.#llm?.next(known, signal)) ?? { entries: [], refused: [] };
    for (const reason of refused) this.#warn(`--llm: ${printable(reason)}`);
    const more = entries.length > 0 ? entries : this.#proposer.next(known);
    return more.length > 0 ? this.#add(more) : this.#confirm();
  }

  async #confirm(): Promise<boolean> {
    this.#confirms = true;
    const more = this.#proposer.last(await this.#book.snapshot());
    return more.length > 0 && this.#add(more);
  }

  async #add(more: readonly Entry[]): Promise<boolean> {
    this.#backlog.put(more);
    return this.#fill(1);
  }

  /** Adds what may wait, at least `least`. Also true if others have added the same meanwhile, since then there is more, too. */
  async #fill(least: number): Promise<boolean> {
    const room = Math.max(least, await this.#book.room(this.#study));
    if (room > 0) await this.#book.add(this.#backlog.take(room));
    return true;
  }
}

function shown(entry: { kind: string; losses?: string; tops?: string }): object {
  const { losses: _losses, tops: _tops, ...rest } = entry;
  return rest;
}

async function bookOf(path: string | undefined): Promise<Book | undefined> {
  if (path === undefined) return undefined;
  return { name: basename(path), body: await read(path) };
}

async function readStudy(path: string): Promise<StudyFile> {
  const text = await read(path);
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch (cause) {
    throw new ArgumentError(path, `no JSON (${(cause as Error).message})`, "a study as JSON");
  }
  return checkStudy(found, path);
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new NibbleError("io", `${path}: ${(cause as Error).message}`, { cause });
  }
}
