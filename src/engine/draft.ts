/**
 * A small model that guesses for a large one, and the cost and success rate of its guesses. It samples with the same
 * options and random numbers, so that both choose the same token where they agree, and a seed gives the same text
 * whatever is guessed.
 */
import type { Sampler } from "./sample.ts";
import type { Tokens } from "./tokens.ts";

/** The assumed success rate before anything is known. */
const PRIOR = 0.7;
/** The weight of a checked guess in the average. */
const WEIGHT = 0.06;
/** Added with each token that comes without a draft: a text that was hard may become easy again. */
const RETURN = 0.01;

/** A text of the small model, as far as guessing needs it (text.ts has the rest). */
export interface DraftText {
  generate(
    prompt: readonly number[],
    sample: Sampler,
    options: { readonly most: number; readonly draw: number; readonly guess: false },
  ): Pick<Tokens, "next"> & { end(): void };
}

/** The small model: its context, and how to open a text. */
export interface DraftSource {
  readonly context: number;
  openText(): DraftText;
}

export class DraftModel {
  readonly source: DraftSource;
  /** The cost of one of its tokens, in steps of the large model, until it is measured. */
  readonly #share: number;
  readonly now: () => number;
  #tokenMs: number | null = null;

  constructor(source: DraftSource, share: number, now = () => performance.now()) {
    this.source = source;
    this.#share = share;
    this.now = now;
  }

  /** The cost of N guesses; stepMs: a step of the large model, in the same unit. */
  cost(tokens: number, stepMs: number): number {
    return tokens * (this.#tokenMs ?? this.#share * stepMs);
  }

  note(tokens: number, ms: number): void {
    const found = ms / tokens;
    // Reading the prompt along with the first guess is not a cost of guesses.
    this.#tokenMs =
      this.#tokenMs === null
        ? found
        : this.#tokenMs + 0.25 * (Math.min(found, 2 * this.#tokenMs) - this.#tokenMs);
  }
}

/** The guesses for one text. */
export class Draft {
  readonly #model: DraftModel;
  readonly #sample: Sampler;
  readonly #text: DraftText;
  #chance = PRIOR;
  /** The guesses made after N tokens. */
  #found: { readonly after: number; readonly ids: readonly number[] } | null = null;
  #stop: (() => void) | null = null;
  #isRead = false;

  constructor(model: DraftModel, sample: Sampler) {
    this.#model = model;
    this.#text = model.source.openText();
    this.#sample = sample;
  }

  get isBusy(): boolean {
    return this.#stop !== null;
  }

  /** For each of N guesses, the chance to be right if those before it are. */
  chances(count: number): number[] {
    return new Array(count).fill(this.#chance);
  }

  cost(tokens: number, stepMs: number): number {
    return this.#model.cost(tokens, stepMs);
  }

  /** The guesses for a text of N tokens; null: none. */
  after(tokens: number): readonly number[] | null {
    return this.#found?.after === tokens ? this.#found.ids : null;
  }

  /** Guesses `count` tokens after `ids`; the first uses random number `draw`. done: called when it has ended. */
  start(
    ids: readonly number[],
    count: number,
    draw: number,
    done: (error: { error: unknown } | null) => void,
  ): void {
    const { context } = this.#model.source;
    this.#found = { after: ids.length, ids: [] };
    const most = Math.min(count, context - ids.length);
    if (most <= 0) return done(null);
    const started = this.#model.now();
    const tokens = this.#text.generate(ids, this.#sample, { most, draw, guess: false });
    this.#stop = () => tokens.end();
    const found: number[] = [];
    const run = async () => {
      for (let token = await tokens.next(); token; token = await tokens.next()) found.push(token.id);
    };
    const end = (error: { error: unknown } | null) => {
      // Ended by the caller.
      if (!this.#stop) return;
      this.end();
      this.#found = { after: ids.length, ids: found };
      if (found.length > 0 && this.#isRead) this.#model.note(found.length, this.#model.now() - started);
      this.#isRead = true;
      done(error);
    };
    run().then(
      () => end(null),
      (error: unknown) => end({ error }),
    );
  }

  /** Guesses were checked. */
  learn(checked: number, right: number): void {
    for (let i = 0; i < Math.min(checked, right + 1); i++)
      this.#chance += WEIGHT * ((i < right ? 1 : 0) - this.#chance);
  }

  /** A token came that it had not guessed. */
  passed(): void {
    this.#chance += RETURN * (PRIOR - this.#chance);
  }

  end(): void {
    this.#stop?.();
    this.#stop = null;
  }
}
