/**
 * One token timeline over one allocation: which tokens the caches hold, and the logits after the last of them.
 * `sync` takes the full list of tokens that should be there and processes only what is new. Refuses to know text and
 * sampling. After an abort or an error the timeline is what was wholly processed.
 */
import { rewindPosition } from "../cache/layers.ts";
import type { Allocation, Continuation, Graph, Sampling } from "../device/contract.ts";
import { ArgumentError, NibbleError, throwIfAborted } from "../format/errors.ts";

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

export class Session {
  /** Ids whose keys and values the caches hold, oldest first. */
  readonly #ids: number[] = [];
  /** Position after the furthest token ever written: what a ring has overwritten depends on it. */
  #written = 0;
  #ahead: Continuation | null = null;
  /** The device is done with a continuation that was stopped, and `#written` knows of it. */
  #settled: Promise<void> = Promise.resolve();

  constructor(
    readonly graph: Graph,
    readonly allocation: Allocation,
    readonly context: number,
    readonly vocab: number,
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
    return { logits: await this.logits(), reused };
  }

  /** `sync` that leaves the logits on the device. */
  async process(ids: readonly number[], options: SyncOptions = {}): Promise<number> {
    if (ids.length === 0) throw new ArgumentError("the prompt", "empty", "at least one token");
    if (ids.length > this.context) throw new ContextError(ids.length, this.context);
    for (const id of ids) this.#check(id);
    await this.#settled;

    let common = 0;
    while (common < this.#ids.length && common < ids.length && this.#ids[common] === ids[common]) common++;
    // The last token is always processed again: its logits were not kept.
    const reused = rewindPosition(this.graph.caches, this.#written, Math.min(common, ids.length - 1));
    this.#ids.length = reused;
    if (reused === 0) this.#written = 0;

    const { maxTokens } = this.graph;
    for (let at = reused; at < ids.length; at += maxTokens) {
      throwIfAborted(options.signal, "reading the prompt");
      const chunk = ids.slice(at, at + maxTokens);
      await this.#run(chunk, at + chunk.length === ids.length ? 1 : 0);
      options.onProgress?.(at + chunk.length - reused, ids.length - reused);
    }
    return reused;
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
    await this.#settled;
    const { maxOutputs, logits } = this.graph;
    for (let at = 0; at < ids.length; at += maxOutputs) {
      throwIfAborted(options.signal, "reading");
      const chunk = ids.slice(at, at + maxOutputs);
      await this.#run(chunk, chunk.length);
      for (let row = 0; row < chunk.length; row++) yield await this.allocation.read(logits, row, 1);
      options.onProgress?.(at + chunk.length, ids.length);
    }
  }

  /** Adds one token and gives the logits [vocab] after it. */
  async append(id: number): Promise<Float32Array> {
    await this.push(id);
    return this.logits();
  }

  /** `append` that leaves the logits on the device. While the device runs ahead, `id` is what it has chosen. */
  async push(id: number): Promise<void> {
    if (this.#ids.length >= this.context) throw new ContextError(this.#ids.length + 1, this.context);
    this.#check(id);
    if (this.#ahead) {
      this.#ids.push(id);
      return;
    }
    await this.#settled;
    await this.#run([id], 1);
  }

  /**
   * Lets the device generate ahead, up to `most` ids and not past the context; null: it cannot, with these options. Ids
   * that it gives become part of the timeline by `push`, each before the next is taken. It runs until `stopAhead`.
   */
  runAhead(sampling: Sampling, most: number): Pick<Continuation, "next"> | null {
    const position = this.#ids.length;
    const fits = this.context - position + 1;
    this.#ahead = this.allocation.continue?.({ sampling, position, most: Math.min(most, fits) }) ?? null;
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

  #check(id: number): void {
    if (!(Number.isInteger(id) && id >= 0 && id < this.vocab))
      throw new ArgumentError("token id", id, `integers 0 to ${this.vocab - 1}`);
  }

  async #run(chunk: readonly number[], outputs: number): Promise<void> {
    const position = this.#ids.length;
    await this.allocation.run({ ids: Uint32Array.from(chunk), position, outputs });
    this.#ids.push(...chunk);
    this.#written = Math.max(this.#written, this.#ids.length);
  }
}
