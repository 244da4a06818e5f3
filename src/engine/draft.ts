/**
 * A small model that guesses what a large one will say. Owns what guesses cost and how often they are right.
 * One idea: it draws with the same options and random numbers, so that where both models agree they choose alike, and a
 * seed gives one text whatever is guessed.
 */
import type { Sampler } from "./sample.ts";
import type { Tokens } from "./tokens.ts";

/** How often a guess is right before anything is known. */
const PRIOR = 0.7;
/** Of what a guess that was checked counts. */
const WEIGHT = 0.06;
/** With each token that comes without a draft: a text that was hard may become easy again. */
const RETURN = 0.01;

/** A text of the small model, as far as guessing needs it (text.ts has it whole). */
export interface DraftText {
  generate(
    prompt: readonly number[],
    sample: Sampler,
    options: { readonly most: number; readonly draw: number; readonly guess: false },
  ): Pick<Tokens, "next"> & { end(): void };
}

/** The small model: tokens it may hold, and how a text of it is opened. */
export interface DraftSource {
  readonly context: number;
  openText(): DraftText;
}

export class DraftModel {
  readonly source: DraftSource;
  /** What a token of it costs, in steps of the large model, until it is measured. */
  readonly #share: number;
  readonly now: () => number;
  #tokenMs: number | null = null;

  constructor(source: DraftSource, share: number, now = () => performance.now()) {
    this.source = source;
    this.#share = share;
    this.now = now;
  }

  /** Of N guesses; stepMs: a step of the large model, in the same unit. */
  cost(tokens: number, stepMs: number): number {
    return tokens * (this.#tokenMs ?? this.#share * stepMs);
  }

  note(tokens: number, ms: number): void {
    const found = ms / tokens;
    // A prompt that is read with the first guess is no cost of guesses.
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
  /** What was guessed after N tokens. */
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

  /** Of each of N guesses, when those before it are right. */
  chances(count: number): number[] {
    return new Array(count).fill(this.#chance);
  }

  cost(tokens: number, stepMs: number): number {
    return this.#model.cost(tokens, stepMs);
  }

  /** What was guessed for a text of N tokens; null: nothing was. */
  after(tokens: number): readonly number[] | null {
    return this.#found?.after === tokens ? this.#found.ids : null;
  }

  /** Guesses `count` tokens after `ids`, of which the first takes the random number `draw`. done: it has ended. */
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

  /** A token came that was not guessed by it. */
  passed(): void {
    this.#chance += RETURN * (PRIOR - this.#chance);
  }

  end(): void {
    this.#stop?.();
    this.#stop = null;
  }
}
