/**
 * The cost of a cache format for a model, compared with f16: a text is read with each format in the same steps, and the
 * next-token distribution at every measured position is compared with that of f16; facts planted in the text are asked
 * for. Formats are loaded one after another. The logits of f16 are kept in a store, so that no machine has to hold a
 * model twice and every format is read once.
 */
import type { ReadOptions, Text } from "../../engine/text.ts";
import { AbortedError } from "../../format/errors.ts";
import type { Tokenizer } from "../../format/tokenizer.ts";
import { type Distribution, distribution, Tally } from "./divergence.ts";
import { ANSWER_TOKENS, askNeedle, NEEDLE_DEPTHS, type Needle } from "./needles.ts";
import { verdict } from "./verdict.ts";
import type { AnswerRow, DepthRow, FormatMeasures, LayerRow, NeedleRow, VerifyRow } from "./verify-rows.ts";
import type { Study } from "./verify-tests.ts";

/** Progress of a verification. */
export interface VerifyProgress {
  /** "f16: reading to 4096", "int4: needles in 1024 tokens", ... */
  readonly doing: string;
  readonly done: number;
  readonly total: number;
  /** Share of the whole study, from 0 to 1, by tokens. */
  readonly share: number;
}

/** Options of a verification. */
export interface VerifyOptions {
  onProgress?: (progress: VerifyProgress) => void;
  /** Stops the study; what was measured of a window is returned as a row, then it rejects with AbortedError. */
  signal?: AbortSignal;
}

/** A model with one format, loaded for a study's context. */
export interface VerifySource {
  /** Used only by the study. */
  readonly text: Text;
  readonly tokenizer: Tokenizer;
  /** What computes, for people. */
  readonly device: string;
  readonly cacheBytes: number;
  close(): Promise<void>;
}

/** Stores rows of logits in order. */
export interface LogitsStore {
  add(logits: Float32Array): Promise<void>;
  /** Row number `row`, from 0. */
  get(row: number): Promise<Float32Array>;
}

/**
 * Runs a study: f16 first, then each format; `open` loads a model with one, and at most one is open at a time. Rows are
 * returned as they are measured, a verdict after each format.
 */
export async function* verify(
  study: Study,
  open: (kv: string) => Promise<VerifySource>,
  store: LogitsStore,
  options: VerifyOptions = {},
): AsyncGenerator<VerifyRow, void> {
  const truth = new Truth(store);
  const work = new Work(study);
  let overF16: readonly VerifyRow[] = [];
  const answers = new Map<Needle, readonly number[]>();
  for (const kv of ["f16", ...study.formats]) {
    const source = await open(kv);
    try {
      const { device, cacheBytes, text } = source;
      yield { kind: "format", kv, device, context: study.context, cacheBytes };
      const rows: VerifyRow[] = [];
      truth.rewind();
      const reading = new Reading(kv, source, truth, work, options);
      for await (const row of reading.text(study)) {
        rows.push(row);
        yield row;
      }
      for await (const row of reading.needles(study, answers)) {
        rows.push(row);
        yield row;
      }
      if (kv === "f16") overF16 = rows;
      yield verdict(kv, rows, overF16, text.scheduler.vocab);
    } finally {
      await source.close();
    }
    if (kv !== "f16") yield* eachLayer(kv, study, open, truth, work, options);
  }
}

async function* eachLayer(
  kv: string,
  study: Study,
  open: (kv: string) => Promise<VerifySource>,
  truth: Truth,
  work: Work,
  options: VerifyOptions,
): AsyncGenerator<LayerRow> {
  for (const { layer, formatOf } of study.layers ?? []) {
    const alone = formatOf(kv);
    // Measured with f16 already.
    if (alone === "f16") continue;
    const source = await open(`f16+${alone}@${layer}`);
    try {
      truth.rewind();
      const reading = new Reading(`${kv} in layer ${layer}`, source, truth, work, options);
      for await (const row of reading.text(study)) yield { ...row, kind: "layer", kv, layer };
    } finally {
      await source.close();
    }
  }
}

/** The distributions of f16, in the order in which every format needs them. */
class Truth {
  readonly #store: LogitsStore;
  /** What need not be summed up again. */
  readonly #sums: Pick<Distribution, "logSum" | "top">[] = [];
  #next = 0;

  constructor(store: LogitsStore) {
    this.#store = store;
  }

  /** f16 has nothing to compare with. */
  async add({ logits, logSum, top }: Distribution): Promise<null> {
    await this.#store.add(logits);
    this.#sums.push({ logSum, top });
    return null;
  }

  /** Starts over. */
  rewind(): void {
    this.#next = 0;
  }

  async next(): Promise<Distribution> {
    const row = this.#next++;
    return { logits: await this.#store.get(row), ...this.#sums[row] };
  }
}

/** Tokens of a study, for its progress. Documents are read once for all of their needles. */
class Work {
  readonly #total: number;
  #done = 0;
  #reported = 0;

  constructor({ windows, haystacks, formats, layers = [] }: Study) {
    const text = windows[windows.length - 1].to;
    const asked = haystacks.flatMap(({ needles }) =>
      needles.map((needle) => needleTokens(needle, needles.length)),
    );
    const alone = formats.flatMap((kv) => layers.filter(({ formatOf }) => formatOf(kv) !== "f16"));
    const each = text + asked.reduce((sum, tokens) => sum + tokens, 0);
    this.#total = (1 + formats.length) * each + alone.length * text;
  }

  /**
   * With `more` tokens of the running part. It never falls: for some of a document's needles more is cached than for
   * others.
   */
  share(more: number): number {
    this.#reported = Math.min(1, Math.max(this.#reported, (this.#done + more) / this.#total));
    return this.#reported;
  }

  add(tokens: number): void {
    this.#done += tokens;
  }
}

const needleTokens = ({ ids }: Needle, ofDocument: number) => ids.length / ofDocument + ANSWER_TOKENS;

/** One format's turn. f16 writes the truth, the others read it. */
class Reading {
  readonly #kv: string;
  readonly #source: VerifySource;
  readonly #truth: Truth;
  readonly #work: Work;
  readonly #options: VerifyOptions;

  constructor(kv: string, source: VerifySource, truth: Truth, work: Work, options: VerifyOptions) {
    this.#kv = kv;
    this.#source = source;
    this.#truth = truth;
    this.#work = work;
    this.#options = options;
  }

  async *text({ ids, windows }: Study): AsyncGenerator<DepthRow> {
    const tallies: Tally[] = [];
    for (const { from, to } of windows) {
      const tally = new Tally();
      tallies.push(tally);
      const before = this.#source.text.ids.length;
      try {
        await this.#process(ids.slice(0, from), `reading to ${from}`);
        if (from > before) this.#work.add(from - before);
        await this.#measure(ids.slice(from, to + 1), `measuring from ${from}`, tally);
        this.#work.add(to - from);
      } catch (error) {
        // Hours of a long window are not lost if it ends early.
        if (error instanceof AbortedError && tally.positions > 0)
          yield { kind: "depth", depth: from, ...this.#measured(tally) };
        throw error;
      }
      yield { kind: "depth", depth: from, ...this.#measured(tally) };
    }
    if (tallies.length > 1) yield { kind: "depth", depth: null, ...this.#measured(Tally.all(tallies)) };
  }

  /** `answers`: written by f16, read by the others. */
  async *needles(
    { haystacks }: Study,
    answers: Map<Needle, readonly number[]>,
  ): AsyncGenerator<NeedleRow | AnswerRow> {
    const { text, tokenizer } = this.#source;
    const kv = this.#kv;
    for (const tokens of new Set(haystacks.map((one) => one.tokens))) {
      const right = new Map(NEEDLE_DEPTHS.map((depth) => [depth, 0]));
      const same = haystacks.filter((one) => one.tokens === tokens);
      const tallies: Tally[] = [];
      for (const [document, { needles }] of same.entries())
        for (const [i, needle] of needles.entries()) {
          const { ids } = needle;
          const doing = `document ${document + 1} of ${same.length} in ${tokens} tokens, needle ${i + 1}`;
          await this.#process(ids, doing);
          const found = await askNeedle(text, tokenizer, needle, this.#options.signal);
          if (found.right) right.set(needle.depth, right.get(needle.depth)! + 1);
          if (kv === "f16") answers.set(needle, found.ids);
          await this.#process(ids.slice(0, -1), doing);
          const tally = new Tally();
          await this.#measure([ids[ids.length - 1], ...answers.get(needle)!], doing, tally);
          tallies.push(tally);
          this.#work.add(needleTokens(needle, needles.length));
        }
      for (const [depth, count] of right)
        yield { kind: "needle", kv, tokens, depth, right: count, asked: same.length };
      yield { kind: "answer", tokens, ...this.#measured(Tally.all(tallies)) };
    }
  }

  async #process(ids: readonly number[], doing: string): Promise<void> {
    const { text } = this.#source;
    if (ids.length === 0) return text.rewind(0);
    await text.read(ids, this.#reporting(doing));
  }

  /** Adds all of `ids` except the last, which is only the expected token of the one before it. */
  async #measure(ids: readonly number[], doing: string, tally: Tally): Promise<void> {
    const { text } = this.#source;
    const before = text.ids.length;
    let next = 1;
    for await (const logits of text.each(ids.slice(0, -1), this.#reporting(doing))) {
      const found = distribution(logits, before + next - 1);
      const truth = this.#kv === "f16" ? await this.#truth.add(found) : await this.#truth.next();
      tally.add(found, ids[next++], truth);
    }
  }

  #reporting(doing: string): ReadOptions {
    const { signal, onProgress } = this.#options;
    return {
      signal,
      onProgress: (done, total) =>
        onProgress?.({ doing: `${this.#kv}: ${doing}`, done, total, share: this.#work.share(done) }),
    };
  }

  #measured({ positions, perplexity, divergence }: Tally): FormatMeasures {
    return { kv: this.#kv, positions, perplexity, divergence };
  }
}
