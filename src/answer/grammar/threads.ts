/**
 * Which thread runs which grammar. The one idea: small grammars share one thread; one that is large, or was found to be
 * slow, has one of a few threads of its own, so that no grammar delays the others for long or ends them.
 */
import { AbortedError } from "../../format/errors.ts";
import { BusyError } from "../errors.ts";
import { Keeper } from "./keeper.ts";
import type { GrammarVocabulary } from "./vocabulary.ts";
import { msOf, type Weight } from "./weight.ts";

export interface ThreadLimits {
  /** A grammar that is expected to compile for longer has a thread of its own. */
  readonly lightMs: number;
  /** A grammar that took longer to compile, or for one token, gets one where there is a place. */
  readonly slowMs: number;
  /** After this long a thread is ended, and what it was doing fails. */
  readonly sharedMs: number;
  readonly ownMs: number;
  /** What the library's memory may grow by in one thread. */
  readonly bytes: number;
  /** Threads for one grammar each. */
  readonly mostOwn: number;
  /** Texts that may wait for one of these threads. */
  readonly mostWaiting: number;
  /** Answers hold a thread until they end, which may take long: a text that has waited this long is refused. */
  readonly waitMs: number;
  /** A thread without texts ends after this long. */
  readonly sharedIdleMs: number;
  readonly ownIdleMs: number;
}

const LIMITS: ThreadLimits = {
  lightMs: 100,
  slowMs: 500,
  sharedMs: 3000,
  ownMs: 10_000,
  bytes: 32 * 2 ** 20,
  mostOwn: 2,
  mostWaiting: 16,
  waitMs: 60_000,
  sharedIdleMs: 300_000,
  ownIdleMs: 30_000,
};

const RETRY_SECONDS = 5;
/** How many grammars are remembered as slow, or as failed. */
const MOST_KNOWN = 100;
/** The machine may have been busy. */
const FAILED_MS = 60_000;

/** A matcher in a thread. */
export interface Seat {
  readonly keeper: Keeper;
  readonly matcher: number;
  readonly isShared: boolean;
}

export class Threads {
  readonly #vocabulary: GrammarVocabulary;
  readonly #limits: ThreadLimits;
  #shared: Keeper | null = null;
  /** By the key of their grammar. */
  readonly #own = new Map<string, Keeper>();
  /** Each checks whether there is a place now. */
  readonly #waiting = new Set<() => void>();
  readonly #idle = new Map<Keeper, NodeJS.Timeout>();
  /** These took long, which may have been the machine: they do not wait for a thread of their own. */
  readonly #slow = new Set<string>();
  /** These ended the shared thread, or were under way when it ended. */
  readonly #barred = new Set<string>();
  readonly #failed = new Map<string, { readonly reason: string; readonly at: number }>();
  #isClosed = false;

  constructor(vocabulary: GrammarVocabulary, limits: Partial<ThreadLimits>) {
    this.#vocabulary = vocabulary;
    this.#limits = { ...LIMITS, ...limits };
  }

  /** A seat for the grammar, after waiting if necessary. BusyError when too many wait, or for too long; AbortedError. */
  async take(key: string, weight: Weight | undefined, signal?: AbortSignal): Promise<Seat> {
    const { vocab } = this.#vocabulary;
    const isLight = () => !this.#barred.has(key) && (!weight || msOf(weight, vocab) <= this.#limits.lightMs);
    const look = () => {
      if (this.#isClosed || signal?.aborted) throw new AbortedError("waiting for a grammar");
      const own = isLight() && !this.#slow.has(key) ? null : this.#takeOwn(key);
      return own ?? (isLight() ? this.#takeShared() : null);
    };
    const seat = look();
    if (seat) return seat;
    const full = (found: string) => new BusyError(`${found}; try again later`, RETRY_SECONDS);
    const { mostWaiting, mostOwn, waitMs } = this.#limits;
    if (this.#waiting.size >= mostWaiting)
      throw full(`${this.#waiting.size} large grammars are waiting already`);
    return new Promise((resolve, reject) => {
      const over = () => {
        clearTimeout(late);
        this.#waiting.delete(again);
        signal?.removeEventListener("abort", again);
      };
      const again = () => {
        try {
          const seat = look();
          if (!seat) return;
          resolve(seat);
        } catch (error) {
          reject(error);
        }
        over();
      };
      const late = setTimeout(() => {
        over();
        reject(
          full(`the answers that hold the ${mostOwn} places for large grammars took ${waitMs / 1000} s`),
        );
      }, waitMs);
      late.unref();
      this.#waiting.add(again);
      signal?.addEventListener("abort", again);
    });
  }

  /** A seat in a thread of its own if the grammar is slow and in the shared thread, and there is a place. */
  takeBetter(key: string, { isShared }: Seat): Seat | null {
    return isShared && this.#slow.has(key) ? this.#takeOwn(key) : null;
  }

  leave({ keeper, matcher, isShared }: Seat): void {
    keeper.close(matcher);
    if (keeper.matchers > 0) return;
    const { sharedIdleMs, ownIdleMs } = this.#limits;
    clearTimeout(this.#idle.get(keeper));
    const idle = setTimeout(() => this.#end(keeper), isShared ? sharedIdleMs : ownIdleMs);
    this.#idle.set(keeper, idle.unref());
    for (const again of [...this.#waiting]) again();
  }

  took(key: string, ms: number): void {
    if (ms > this.#limits.slowMs) remember(this.#slow, key);
  }

  /** Whether it is tried again: in the shared thread another grammar may have been the cause. */
  failed(key: string, { isShared }: Seat, reason: string): boolean {
    if (isShared) {
      remember(this.#barred, key);
      return true;
    }
    this.#failed.set(key, { reason, at: performance.now() });
    if (this.#failed.size > MOST_KNOWN) this.#failed.delete([...this.#failed.keys()][0]);
    return false;
  }

  /** Why this grammar failed recently; undefined: it did not. */
  failureOf(key: string): string | undefined {
    const found = this.#failed.get(key);
    return found && performance.now() - found.at < FAILED_MS ? found.reason : undefined;
  }

  close(): void {
    this.#isClosed = true;
    for (const keeper of [this.#shared, ...this.#own.values()]) if (keeper) this.#end(keeper);
    for (const again of [...this.#waiting]) again();
  }

  #sit(keeper: Keeper, isShared: boolean): Seat {
    clearTimeout(this.#idle.get(keeper));
    this.#idle.delete(keeper);
    return { keeper, matcher: keeper.open(), isShared };
  }

  #takeShared(): Seat {
    if (this.#shared === null || this.#shared.isEnded) this.#shared = this.#keeper(this.#limits.sharedMs);
    return this.#sit(this.#shared, true);
  }

  #takeOwn(key: string): Seat | null {
    const known = this.#own.get(key);
    if (known && !known.isEnded) return this.#sit(known, false);
    if (this.#own.size >= this.#limits.mostOwn)
      for (const keeper of this.#own.values()) {
        if (!keeper.isEnded && keeper.matchers > 0) continue;
        this.#end(keeper);
        break;
      }
    if (this.#own.size >= this.#limits.mostOwn) return null;
    const keeper = this.#keeper(this.#limits.ownMs);
    this.#own.set(key, keeper);
    return this.#sit(keeper, false);
  }

  #keeper(ms: number): Keeper {
    return new Keeper(this.#vocabulary, { ms, bytes: this.#limits.bytes });
  }

  #end(keeper: Keeper): void {
    clearTimeout(this.#idle.get(keeper));
    this.#idle.delete(keeper);
    if (keeper === this.#shared) this.#shared = null;
    for (const [key, own] of this.#own) if (own === keeper) this.#own.delete(key);
    keeper.end("its thread was closed");
  }
}

function remember(known: Set<string>, key: string): void {
  known.delete(key);
  known.add(key);
  if (known.size > MOST_KNOWN) known.delete([...known][0]);
}
