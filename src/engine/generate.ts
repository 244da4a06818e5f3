/**
 * The generation loop: sync the prompt, sample, append, stream text; with stop conditions and statistics. Text that may
 * still become a stop string, and incomplete characters, are held back.
 */
import { AbortedError, ArgumentError, throwIfAborted } from "../format/errors.ts";
import type { Tokenizer } from "../format/tokenizer.ts";
import { type CustomSampler, customSampler } from "./custom-sampler.ts";
import type { Suppressed } from "./default-sampling.ts";
import { endedWhenDropped } from "./dropped.ts";
import { type Likelihood, MOST_LOGPROBS } from "./likelihood.ts";
import { Repeats } from "./repeats.ts";
import { type SampleOptions, sampler } from "./sample.ts";
import type { Text } from "./text.ts";
import type { Constraint } from "./tokens.ts";

/** Options of a generation: its limits, how tokens are chosen, callbacks for its progress. */
export interface GenerateOptions extends SampleOptions {
  /**
   * Maximum tokens to generate. Default: 16,384, or earlier if the text repeats one short sequence for 1,024 tokens. If
   * given, only this limit applies; `Infinity`: none.
   */
  maxTokens?: number;
  /** A text that ends the generation, or several; it is not part of the output. */
  stop?: string | readonly string[];
  /** Continue past the model's end tokens. */
  ignoreEnd?: boolean;
  /** Write control tokens as text: all, or those with these texts; never end tokens. Default false. */
  special?: boolean | readonly string[];
  /** Also return the likelihood of each token and of the N most likely alternatives, 0 to 100. Default: off. */
  logprobs?: number;
  /**
   * Guess the next tokens from earlier parts of the text, and check several of them in one step if that is faster. The
   * text is the same, also with a seed. Default true.
   */
  guess?: boolean;
  /**
   * Chooses each token instead of temperature and the other options, which are then ignored. Sampling then runs on the
   * host.
   */
  sampler?: CustomSampler;
  /** Restricts which tokens may come next, for example to a grammar. Sampling then runs on the host. */
  constraint?: Constraint;
  /**
   * Aborts, also while waiting for a turn; iteration then rejects with AbortedError. What was processed stays in the
   * cache for the next call.
   */
  signal?: AbortSignal;
  /** Called while the prompt is read: new tokens processed, and their total. */
  onPrompt?: (tokens: number, total: number) => void;
}

/** New text and its tokens. The last piece may have tokens without text, such as the end token. */
export interface Piece {
  readonly text: string;
  readonly ids: readonly number[];
  /** With `logprobs`: one likelihood for each id. */
  readonly likelihoods?: readonly Likelihood[];
}

/**
 * end: an end token, or the constraint allows no more; stop: a stop string; length: maxTokens; repeats: without
 * maxTokens, the same short sequence over and over; context: the context is full; cache: running texts fill the cache,
 * and this is the newest; left: the caller left the loop.
 */
export type StopReason = "end" | "stop" | "length" | "repeats" | "context" | "cache" | "left";

/** The default limit of tokens. Reasoning models need some thousands; more is of little use. */
const MOST_TOKENS = 16_384;

/** `options`, completed by `defaults`. */
export function withDefaults(options: GenerateOptions, defaults: SampleOptions): GenerateOptions {
  const said = Object.entries(options).filter(([, value]) => value !== undefined);
  return { ...defaults, ...Object.fromEntries(said) };
}

/** A generation's text, why it ended, and what it cost. */
export interface GenerationResult {
  readonly stopReason: StopReason;
  /** The stop string that ended it. */
  readonly stopText?: string;
  readonly text: string;
  /** All generated tokens, including an end token. */
  readonly ids: readonly number[];
  readonly promptTokens: number;
  /** Tokens of the prompt that were in the cache, from this text or from others with the same prefix. */
  readonly reusedTokens: number;
  readonly generatedTokens: number;
  /** Tokens that were guessed ahead and checked, and those of them that were right. */
  readonly draftedTokens: number;
  readonly acceptedTokens: number;
  /** Time to read the new part of the prompt. */
  readonly promptMs: number;
  /** Time from the first token to the last. */
  readonly generateMs: number;
  readonly seed: number;
}

/** Where a generation stores its result, even if the loop is left and the generator cannot return it. */
export interface Outcome {
  result: GenerationResult | null;
}

/**
 * One generation: iterate for pieces, or await `text()` or `result()`. Nothing runs before that, and it runs once: a
 * second iteration gets what is left. Leaving the loop ends it and frees its place for the next generation.
 */
export class Generation implements AsyncIterable<Piece> {
  readonly #pieces: AsyncGenerator<Piece, GenerationResult>;
  readonly #outcome: Outcome;
  #result: GenerationResult | null = null;
  #failure: unknown = null;

  constructor(pieces: AsyncGenerator<Piece, GenerationResult>, outcome: Outcome = { result: null }) {
    this.#pieces = endedWhenDropped(pieces);
    this.#outcome = outcome;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Piece, void> {
    if (this.#failure) throw this.#failure;
    try {
      // If several iterate at once, one gets the result.
      this.#result = (yield* this.#pieces) ?? this.#result;
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  /**
   * Runs to the end if necessary. If the loop was left, returns what was generated so far, with stop reason "left".
   * Rejects with the error that ended it, or with AbortedError if it was disposed of before it began.
   */
  async result(): Promise<GenerationResult> {
    for await (const _ of this);
    this.#result ??= this.#outcome.result;
    if (!this.#result) throw new AbortedError("the generation");
    return this.#result;
  }

  async text(): Promise<string> {
    return (await this.result()).text;
  }

  /** For `await using`: ends it and frees its place for the next generation. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pieces.return(undefined as never);
  }
}

/** ids, outcome: receive the generated ids and the result, so that they are known even if it ends early. */
export async function* generateTokens(
  into: Text,
  tokenizer: Tokenizer,
  prompt: readonly number[],
  options: GenerateOptions & { continues?: boolean; suppressed?: Suppressed | null },
  ids: number[] = [],
  outcome: Outcome = { result: null },
): AsyncGenerator<Piece, GenerationResult> {
  const { maxTokens = MOST_TOKENS, stop = [], signal, onPrompt, ignoreEnd } = options;
  if (!(maxTokens >= 0 && (Number.isInteger(maxTokens) || maxTokens === Number.POSITIVE_INFINITY)))
    throw new ArgumentError("maxTokens", maxTokens, "integers from 0 on");
  const stops = stopsOf(stop);
  const { logprobs, constraint, special, guess, suppressed } = options;
  const repeats = options.maxTokens === undefined ? new Repeats() : null;
  if (logprobs !== undefined && !(Number.isInteger(logprobs) && logprobs >= 0 && logprobs <= MOST_LOGPROBS))
    throw new ArgumentError("logprobs", logprobs, `integers 0 to ${MOST_LOGPROBS}`);
  if (constraint && !(typeof constraint.allowed === "function" && typeof constraint.accept === "function"))
    throw new ArgumentError("constraint", typeof constraint, "an object with allowed() and accept(id)");
  const sample = options.sampler ? customSampler(options.sampler) : sampler(options);
  const { context } = into.scheduler;
  let started = performance.now();
  let reused = 0;
  let promptDone = 0;
  const stream = tokenizer.stream({ continues: options.continues, special });
  const hold = new StopHold(stops);
  let pending: number[] = [];
  let likelihoods: Likelihood[] = [];
  let text = "";
  let stopReason: StopReason | null = null;
  const give = (more: string): Piece => {
    text += more;
    const piece = { text: more, ids: pending };
    const given = likelihoods;
    pending = [];
    likelihoods = [];
    return logprobs === undefined ? piece : { ...piece, likelihoods: given };
  };

  const isEnd = (id: number) => tokenizer.endIds.has(id) && !ignoreEnd;
  const reading = { signal, onProgress: onPrompt };
  const tokens =
    maxTokens === 0
      ? null
      : into.generate(prompt, sample, {
          ...reading,
          most: maxTokens,
          isEnd,
          logprobs,
          constraint,
          guess,
          suppressed,
        });
  const result = (reason: StopReason): GenerationResult => ({
    stopReason: reason,
    ...(reason === "stop" ? { stopText: hold.found } : {}),
    text,
    ids,
    promptTokens: prompt.length,
    reusedTokens: reused,
    generatedTokens: ids.length,
    draftedTokens: tokens?.drafted ?? 0,
    acceptedTokens: tokens?.accepted ?? 0,
    promptMs: promptDone - started,
    generateMs: performance.now() - promptDone,
    seed: sample.seed,
  });
  try {
    if (!tokens) ({ reused } = await into.sync(prompt, reading));
    promptDone = performance.now();
    while (tokens && stopReason === null) {
      throwIfAborted(signal, "generating");
      const token = await tokens.next();
      if (ids.length === 0) {
        promptDone = performance.now();
        ({ reused, began: started } = tokens);
      }
      if (token === null) {
        stopReason = tokens.ending === "cache" ? "cache" : "end";
        break;
      }
      const { id } = token;
      ids.push(id);
      pending.push(id);
      if (token.likelihood) likelihoods.push(token.likelihood);
      if (isEnd(id)) stopReason = "end";
      else {
        const { text: more, stopped } = hold.push(tokenizer.endIds.has(id) ? "" : stream.push(id));
        if (stopped) stopReason = "stop";
        else if (ids.length >= maxTokens) stopReason = "length";
        else if (prompt.length + ids.length > context) stopReason = "context";
        else if (repeats?.push(id)) stopReason = "repeats";
        if (more !== "") yield give(more);
      }
    }
    tokens?.end();
    let rest = "";
    if (stopReason !== "stop") {
      const { text: more, stopped } = hold.push(stream.end());
      if (stopped) stopReason = "stop";
      rest = more + hold.end();
    }
    stopReason ??= "length";
    if (rest !== "" || pending.length > 0) yield give(rest);
    return result(stopReason);
  } finally {
    tokens?.end();
    outcome.result = result(stopReason ?? "left");
  }
}

/** Throws ArgumentError. */
export function stopsOf(stop: GenerateOptions["stop"] = []): readonly string[] {
  const stops: unknown = typeof stop === "string" ? [stop] : stop;
  if (Array.isArray(stops) && stops.every((text) => typeof text === "string" && text !== "")) return stops;
  throw new ArgumentError("stop", JSON.stringify(stop), "a text or a list of texts, none empty");
}

/**
 * Holds back text at the end that could be the beginning of a stop string. The stop string that is complete first
 * counts, and of several the longest, so that the tokenization of the text does not matter.
 */
export class StopHold {
  #held = "";

  constructor(readonly stops: readonly string[]) {}

  /** The stop string that was complete first. */
  found = "";

  push(more: string): { text: string; stopped: boolean } {
    const all = this.#held + more;
    const found = this.stops
      .map((stop) => ({ from: all.indexOf(stop), length: stop.length }))
      .filter(({ from }) => from >= 0)
      .sort((a, b) => a.from + a.length - (b.from + b.length) || b.length - a.length);
    if (found.length > 0) {
      this.#held = "";
      const [{ from, length }] = found;
      this.found = all.slice(from, from + length);
      return { text: all.slice(0, from), stopped: true };
    }
    const safe = all.length - this.#prefixLength(all);
    this.#held = all.slice(safe);
    return { text: all.slice(0, safe), stopped: false };
  }

  end(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }

  /** Length of the longest end of `text` that begins a stop string. */
  #prefixLength(text: string): number {
    const most = Math.max(0, ...this.stops.map((stop) => stop.length - 1));
    for (let length = Math.min(most, text.length); length > 0; length--) {
      const end = text.slice(text.length - length);
      if (this.stops.some((stop) => stop.startsWith(end))) return length;
    }
    return 0;
  }
}
