/**
 * Generation ahead of its reader. Owns how many steps are under way, their order, and the ids' way back through a few
 * mappable buffers. Refuses to know what a step is: the allocation starts it.
 * One idea: every submit answers with one word, and `next` starts a new one for each that it takes.
 */
import { AbortedError, ArgumentError } from "../../format/errors.ts";
import type { Continuation } from "../contract.ts";
import { MAP_READ } from "./flags.ts";
import type { Gpu } from "./gpu.ts";
import { MAPPABLE } from "./read-back.ts";
import { NOT_PROVEN } from "./sample.ts";

/**
 * Steps under way, the awaited one included: the host is woken some 0.1 ms after a submit is done, and a garbage
 * collection takes a few ms. More would only be computed in vain when a text ends.
 */
const UNDER_WAY = 4;

export interface RunAheadOptions {
  /** Of the first id that will be sampled, where its step runs. */
  position: number;
  /** Ids to choose at most. */
  most: number;
  /**
   * Submits, in order: a step at `position` with the id that was chosen last (null: none, the logits are there), then a
   * sampling. Resolves with the word of `chosen`.
   */
  start(position: number | null): Promise<number>;
}

export class RunAhead implements Continuation {
  readonly #options: RunAheadOptions;
  /** Started, not yet taken; oldest first. */
  readonly #under: Promise<number>[] = [];
  #started = 0;
  #latest: Promise<unknown> = Promise.resolve();
  /** Why nothing more comes. */
  #ended: unknown = null;
  #isUnproven = false;

  constructor(options: RunAheadOptions) {
    this.#options = options;
  }

  async next(): Promise<number | null> {
    if (this.#isUnproven) return null;
    while (this.#ended === null && this.#under.length < UNDER_WAY && this.#started < this.#options.most)
      this.#start();
    const oldest = this.#under.shift();
    if (!oldest) throw this.#ended ?? new ArgumentError("ids taken", this.#started + 1, `${this.#started}`);
    try {
      const word = await oldest;
      this.#isUnproven = word === NOT_PROVEN;
      return this.#isUnproven ? null : word;
    } catch (error) {
      // What was started behind it has failed too, perhaps in other words.
      this.#under.length = 0;
      this.#ended ??= error;
      throw error;
    }
  }

  #start(): void {
    const { position, start } = this.#options;
    const at = this.#started === 0 ? null : position + this.#started - 1;
    this.#started++;
    const word = (async () => start(at))();
    // Nobody may ever take it.
    this.#latest = word.catch(() => {});
    this.#under.push(word);
  }

  async stop(): Promise<{ position: number }> {
    this.#ended ??= new AbortedError("generating");
    // Work is done in the order of its submits.
    await this.#latest;
    return { position: this.#options.position + Math.max(0, this.#started - 1) };
  }
}

/** One word of a GPU buffer, read back again and again while later submits write it anew. */
export class WordBack {
  readonly #free: GPUBuffer[];

  /** source: [0] is read. */
  constructor(
    readonly gpu: Gpu,
    readonly source: GPUBuffer,
  ) {
    this.#free = Array.from({ length: UNDER_WAY }, () =>
      gpu.device.createBuffer({ label: "word back", size: 4, usage: MAPPABLE }),
    );
  }

  /** Encodes the copy. What it gives is called after the submit, and resolves when that is done. */
  encode(encoder: GPUCommandEncoder): () => Promise<number> {
    const buffer = this.#free.pop();
    if (!buffer) throw new ArgumentError("words under way", UNDER_WAY + 1, `${UNDER_WAY}`);
    encoder.copyBufferToBuffer(this.source, 0, buffer, 0, 4);
    return () => this.#read(buffer);
  }

  async #read(buffer: GPUBuffer): Promise<number> {
    const { gpu } = this;
    try {
      await buffer.mapAsync(MAP_READ);
    } catch (cause) {
      throw await gpu.failure("reading back", cause);
    }
    const word = new Uint32Array(buffer.getMappedRange())[0];
    buffer.unmap();
    this.#free.push(buffer);
    gpu.check();
    return word;
  }
}
