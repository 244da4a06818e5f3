/**
 * One token timeline over an allocation that it may share with others: which tokens its caches hold, and the logits after
 * the last of them. `process` takes the full list of tokens that should be there and processes only what is new, and what
 * no other session has processed either. Refuses to know text and sampling. After an abort or an error the timeline is
 * what was wholly processed.
 * One idea: the device is the session's from `process` or `push` until `rest`, for the logits stay there until then;
 * between the chunks of a prompt others may have it.
 */
import { rewindPosition } from "../cache/layers.ts";
import type { Allocation, Continuation, Graph, Sampling } from "../device/contract.ts";
import { ArgumentError, NibbleError, throwIfAborted } from "../format/errors.ts";
import { type Sharer, Turns } from "./turns.ts";

/** More tokens than the context holds. */
export class ContextError extends NibbleError {
  constructor(
    readonly tokens: number,
    readonly context: number,
  ) {
    super(
      "context",
      `${tokens} tokens do not fit the context of ${context}. Ask for a longer context or shorten the prompt.`,
    );
  }
}

export interface SyncOptions {
  signal?: AbortSignal;
  /** tokens processed so far of `total` that were new. */
  onProgress?: (tokens: number, total: number) => void;
}

/** What the sessions over one allocation have in common. */
export interface SessionShare {
  readonly turns: Turns;
  /** All of them; a session's timeline is its index. */
  readonly sessions: readonly Session[];
}

/** A prefix that is longer by less is read again: copying would touch every layer for little. */
export const WORTH_COPYING = 64;

/** One session for each timeline of the graph. */
export function shareSessions(
  graph: Graph,
  allocation: Allocation,
  context: number,
  vocab: number,
): readonly Session[] {
  const sessions: Session[] = [];
  const share = { turns: new Turns(), sessions };
  for (let i = 0; i < graph.timelines; i++)
    sessions.push(new Session(graph, allocation, context, vocab, share, i));
  return sessions;
}

export class Session implements Sharer {
  /** Ids whose keys and values the caches hold, oldest first. */
  readonly #ids: number[] = [];
  /** Position after the furthest token ever written: what a ring has overwritten depends on it. */
  #written = 0;
  #ahead: Continuation | null = null;
  /** The device is done with a continuation that was stopped, and `#written` knows of it. */
  #settled: Promise<void> = Promise.resolve();
  /** The logits after the last token are on the device. */
  #hasLogits = false;

  constructor(
    readonly graph: Graph,
    readonly allocation: Allocation,
    readonly context: number,
    readonly vocab: number,
    readonly share: SessionShare = { turns: new Turns(), sessions: [] },
    readonly timeline = 0,
  ) {}

  get ids(): readonly number[] {
    return this.#ids;
  }

  /**
   * Makes the timeline equal `ids` and gives the logits [vocab] after the last. The longest common prefix is kept, so
   * a conversation costs only its new tokens. Returns how many tokens were reused, too.
   */
  async sync(
    ids: readonly number[],
    options: SyncOptions = {},
  ): Promise<{ logits: Float32Array; reused: number }> {
    const reused = await this.process(ids, options);
    const logits = await this.logits();
    this.rest();
    return { logits, reused };
  }

  /** `sync` that leaves the logits on the device, which is held until `rest`. */
  async process(ids: readonly number[], options: SyncOptions = {}): Promise<number> {
    const { signal, onProgress } = options;
    if (ids.length === 0) throw new ArgumentError("the prompt", "empty", "at least one token");
    if (ids.length > this.context) throw new ContextError(ids.length, this.context);
    for (const id of ids) this.#check(id);
    const { turns } = this.share;
    await turns.take(this, signal);
    try {
      await this.#settled;
      const kept = this.reusable(ids);
      this.#ids.length = kept;
      if (kept === 0) this.#written = 0;

      let read = 0;
      while (this.#ids.length < ids.length) {
        if (read > 0) {
          turns.end(this);
          await turns.take(this, signal);
        }
        throwIfAborted(signal, "reading the prompt");
        await this.#borrow(ids);
        const at = this.#ids.length;
        const chunk = ids.slice(at, at + this.graph.maxTokens);
        await this.#run(chunk, at + chunk.length === ids.length ? 1 : 0);
        read += chunk.length;
        onProgress?.(this.#ids.length - kept, ids.length - kept);
      }
      return ids.length - read;
    } catch (error) {
      this.rest();
      throw error;
    }
  }

  /** How many tokens of `ids` from the first on need not be processed again, by what the caches hold. */
  reusable(ids: readonly number[]): number {
    let common = 0;
    while (common < this.#ids.length && common < ids.length && this.#ids[common] === ids[common]) common++;
    // The last token is always processed again: its logits were not kept.
    return rewindPosition(this.graph.caches, this.#written, Math.min(common, ids.length - 1));
  }

  /** The logits [vocab] after the last token. */
  logits(): Promise<Float32Array> {
    return this.allocation.read(this.graph.logits, 0, 1);
  }

  /**
   * Adds `ids` to the timeline and gives the logits [vocab] after each of them, in order: reading for studies. Takes
   * what the graph has of outputs at a time.
   */
  async *each(ids: readonly number[], options: SyncOptions = {}): AsyncGenerator<Float32Array, void> {
    const total = this.#ids.length + ids.length;
    if (total > this.context) throw new ContextError(total, this.context);
    for (const id of ids) this.#check(id);
    await this.share.turns.take(this, options.signal);
    try {
      await this.#settled;
      const { maxOutputs, logits } = this.graph;
      for (let at = 0; at < ids.length; at += maxOutputs) {
        throwIfAborted(options.signal, "reading");
        const chunk = ids.slice(at, at + maxOutputs);
        await this.#run(chunk, chunk.length);
        for (let row = 0; row < chunk.length; row++) yield await this.allocation.read(logits, row, 1);
        options.onProgress?.(at + chunk.length, ids.length);
      }
    } finally {
      this.rest();
    }
  }

  /** Adds one token and gives the logits [vocab] after it. */
  async append(id: number): Promise<Float32Array> {
    await this.push(id);
    const logits = await this.logits();
    this.rest();
    return logits;
  }

  /**
   * `append` that leaves the logits on the device, which is held until `rest`. While the device runs ahead, `id` is what
   * it has chosen.
   */
  async push(id: number, signal?: AbortSignal): Promise<void> {
    if (this.#ids.length >= this.context) throw new ContextError(this.#ids.length + 1, this.context);
    this.#check(id);
    if (this.#ahead) {
      this.#ids.push(id);
      return;
    }
    await this.share.turns.take(this, signal);
    await this.#settled;
    await this.#run([id], 1);
  }

  /** Takes the device, until `rest`, with the logits after the last token, or running ahead still. */
  async hold(signal?: AbortSignal): Promise<void> {
    await this.share.turns.take(this, signal);
    // Whoever had the device in between has overwritten them.
    if (!this.#ahead && !this.#hasLogits) {
      await this.#settled;
      await this.process([...this.#ids], { signal });
    }
  }

  /** Others may have the device; without any it goes on running ahead. */
  rest(): void {
    this.share.turns.end(this);
  }

  /** What runs ahead; null: nothing. */
  get ahead(): Pick<Continuation, "next"> | null {
    return this.#ahead;
  }

  /**
   * Lets the device generate ahead, up to `most` ids and not past the context; null: it cannot, with these options. Ids
   * that it gives become part of the timeline by `push`, each before the next is taken. It runs until `stopAhead`, or
   * until another session wants the device.
   */
  runAhead(sampling: Sampling, most: number): Pick<Continuation, "next"> | null {
    const position = this.#ids.length;
    const fits = this.context - position + 1;
    const { timeline } = this;
    this.#ahead =
      this.allocation.continue?.({ sampling, position, most: Math.min(most, fits), timeline }) ?? null;
    if (this.#ahead) this.#hasLogits = false;
    return this.#ahead;
  }

  /** Does not wait: whatever uses the session next does. */
  stopAhead(): void {
    const ahead = this.#ahead;
    if (!ahead) return;
    this.#ahead = null;
    this.#settled = ahead.stop().then(({ position }) => {
      // Steps of ids that nobody took have overwritten what a ring held.
      this.#written = Math.max(this.#written, position);
      this.#ids.length = Math.min(this.#ids.length, position);
    });
  }

  /** Position after the furthest token that the caches were ever written for. */
  get written(): number {
    return this.#written;
  }

  /** `fill` makes the caches hold `ids`, and says how far they were written; until then, or if it fails, there is no text. */
  async adopt(ids: readonly number[], fill: () => Promise<number>): Promise<void> {
    await this.alone(async () => {
      this.#ids.length = 0;
      this.#written = 0;
      this.#hasLogits = false;
    });
    this.#written = await fill();
    this.#add(ids);
  }

  /** Does something that is no step while no other session has the device. */
  async alone<T>(what: () => Promise<T>): Promise<T> {
    await this.share.turns.take(this);
    try {
      await this.#settled;
      return await what();
    } finally {
      this.rest();
    }
  }

  settle(): Promise<void> {
    this.stopAhead();
    this.#hasLogits = false;
    return this.#settled;
  }

  /** Copies what another session has processed beyond the timeline's end, if it is worth it. */
  async #borrow(ids: readonly number[]): Promise<void> {
    const at = this.#ids.length;
    let longest = at + WORTH_COPYING - 1;
    let donor: Session | null = null;
    for (const other of this.share.sessions) {
      if (other === this || other.#ids[longest] !== ids[longest]) continue;
      const tokens = other.reusable(ids);
      if (tokens > longest) {
        longest = tokens;
        donor = other;
      }
    }
    if (!donor) return;
    await this.allocation.copyCache(donor.timeline, this.timeline, longest);
    this.#add(ids.slice(at, longest));
    this.#written = donor.#written;
  }

  /** Not by `push(...ids)`, which takes so many arguments only. */
  #add(ids: readonly number[]): void {
    for (const id of ids) this.#ids.push(id);
  }

  #check(id: number): void {
    if (!(Number.isInteger(id) && id >= 0 && id < this.vocab))
      throw new ArgumentError("token id", id, `integers 0 to ${this.vocab - 1}`);
  }

  async #run(chunk: readonly number[], outputs: number): Promise<void> {
    const position = this.#ids.length;
    this.#hasLogits = false;
    const { timeline } = this;
    await this.allocation.run({ ids: Uint32Array.from(chunk), position, outputs, timeline });
    this.#add(chunk);
    // Of several rows the last would be the one.
    this.#hasLogits = outputs === 1;
    this.#written = Math.max(this.#written, this.#ids.length);
  }
}
