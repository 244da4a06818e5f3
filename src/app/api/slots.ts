/**
 * Who generates when. Owns the order (first come, first served), how many may wait, and that whoever goes away leaves
 * his place. Refuses to know HTTP and what is generated.
 */
import {
  AbortedError,
  type GenerateOptions,
  type GenerationResult,
  type LanguageModel,
  type Piece,
  type PromptOptions,
} from "../../index.ts";
import { ApiError } from "./errors.ts";

export type SlotOptions = GenerateOptions & Pick<PromptOptions, "raw"> & { readonly signal: AbortSignal };

export class Slots {
  readonly #model: LanguageModel;
  readonly #mostWaiting: number;
  /** First come first; each is called when its turn is there. */
  readonly #queue: (() => void)[] = [];
  #free: number;

  /** parallel: generations at a time. mostWaiting: behind them. */
  constructor(model: LanguageModel, { parallel, mostWaiting }: { parallel: number; mostWaiting: number }) {
    this.#model = model;
    this.#mostWaiting = mostWaiting;
    this.#free = parallel;
    this.parallel = parallel;
  }

  readonly parallel: number;

  get running(): number {
    return this.parallel - this.#free;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  /** ApiError 503 when nobody more may wait. Whoever is let in calls `run` without waiting for anything else. */
  admit(): void {
    if (this.#free > 0 || this.#queue.length < this.#mostWaiting) return;
    throw new ApiError(503, `${this.#queue.length} requests are waiting already; try again later`, {
      code: "queue_full",
      headers: { "retry-after": "1" },
    });
  }

  /**
   * Waits for a turn, then generates; `onPiece` is awaited, so that a slow reader is not run over. Rejects with
   * AbortedError after an abort, also while waiting.
   */
  async run(
    ids: readonly number[],
    options: SlotOptions,
    onPiece: (piece: Piece) => void | Promise<void>,
  ): Promise<GenerationResult> {
    await this.#turn(options.signal);
    try {
      const generation = this.#model.generate({ ids }, options);
      for await (const piece of generation) await onPiece(piece);
      return await generation.result();
    } finally {
      const next = this.#queue.shift();
      if (next) next();
      else this.#free++;
    }
  }

  async #turn(signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw new AbortedError("waiting");
    if (this.#free > 0) {
      this.#free--;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const turn = () => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      const leave = () => {
        this.#queue.splice(this.#queue.indexOf(turn), 1);
        reject(new AbortedError("waiting"));
      };
      this.#queue.push(turn);
      signal.addEventListener("abort", leave, { once: true });
    });
  }
}
