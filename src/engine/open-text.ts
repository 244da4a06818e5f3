/**
 * A text that a caller extends, continues, forks, cuts and saves. It keeps all of its ids, including those that the
 * model has not read yet; text.ts handles pages. It holds no resources of the model, so there is no close, and there
 * may be any number of them.
 */
import { ArgumentError } from "../format/errors.ts";
import type { Tokenizer } from "../format/tokenizer.ts";
import type { Suppressed } from "./default-sampling.ts";
import {
  type GenerateOptions,
  Generation,
  generateTokens,
  type Outcome,
  type Piece,
  withDefaults,
} from "./generate.ts";
import type { SampleOptions } from "./sample.ts";
import type { ReadOptions, Text } from "./text.ts";

export interface OpenTextParts {
  readonly text: Text;
  readonly tokenizer: Tokenizer;
  /** Default sampling of generations. */
  readonly sampling?: SampleOptions;
  readonly suppressed?: Suppressed | null;
  /** Tokenizes text that begins a prompt: with a bos if the model has one. */
  begin(text: string): number[];
  save(ids: readonly number[]): AsyncGenerator<Uint8Array<ArrayBuffer>, { tokens: number }>;
}

/**
 *     const text = model.open("Once upon a time");
 *     const [one, other] = [text, text.fork()];
 *     console.log(await one.generate({ maxTokens: 20 }).text(), await other.generate({ seed: 2 }).text());
 *
 * One operation at a time; another is refused with an ArgumentError. What was read of the text is read again only if
 * other texts have needed its space in the cache.
 */
export class OpenText {
  readonly #parts: OpenTextParts;
  /** Grows in place: single tokens are added to texts of many thousands. */
  #all: number[];
  /** The result of `ids` since `#all` was last changed. */
  #copy: readonly number[] | null = null;

  constructor(parts: OpenTextParts, ids: readonly number[] = []) {
    this.#parts = parts;
    this.#all = [...ids];
  }

  /** All ids, read or not. */
  get ids(): readonly number[] {
    this.#copy ??= [...this.#all];
    return this.#copy;
  }

  /** Adds text, or ids. Nothing is read until it is needed. */
  append(more: string | { readonly ids: readonly number[] }): this {
    const { tokenizer, begin } = this.#parts;
    const isFirst = this.#all.length === 0;
    this.#add(typeof more !== "string" ? more.ids : isFirst ? begin(more) : tokenizer.encode(more));
    return this;
  }

  /** Reads what is not read yet; resolves with how many of its tokens were in the cache. */
  read(options?: ReadOptions): Promise<number> {
    return this.#parts.text.read(this.ids, options);
  }

  /** The logits [vocab] after its last token. */
  async logits(options?: ReadOptions): Promise<Float32Array> {
    return (await this.#parts.text.sync(this.ids, options)).logits;
  }

  /** Continues it; the new tokens become part of it. `onPrompt` reports what is read first. */
  generate(options: GenerateOptions = {}): Generation {
    const outcome: Outcome = { result: null };
    return new Generation(this.#generate(options, outcome), outcome);
  }

  async *#generate(
    options: GenerateOptions,
    outcome: Outcome,
  ): AsyncGenerator<Piece, Awaited<ReturnType<Generation["result"]>>> {
    const { text, tokenizer, sampling = {}, suppressed } = this.#parts;
    const all = { ...withDefaults(options, sampling), continues: true, suppressed };
    const pieces = generateTokens(text, tokenizer, this.ids, all, [], outcome);
    try {
      for (;;) {
        const { value, done } = await pieces.next();
        if (done) return value;
        this.#add(value.ids);
        yield value;
      }
    } finally {
      // Whether it ended or was left.
      await pieces.return(undefined as never);
    }
  }

  /** Another text that begins with all of this one. It costs nothing. */
  fork(): OpenText {
    const { text } = this.#parts;
    return new OpenText({ ...this.#parts, text: text.fork() }, this.#all);
  }

  /** Keeps only its first `tokens`. */
  rewind(tokens: number): this {
    if (!(Number.isInteger(tokens) && tokens >= 0 && tokens <= this.#all.length))
      throw new ArgumentError("tokens to keep", tokens, `integers 0 to ${this.#all.length}`);
    this.#all.length = tokens;
    this.#copy = null;
    return this;
  }

  /** The text and its cache, which is first completed, as the bytes of a file (see `model.restoreSession`). */
  async *save(options?: ReadOptions): AsyncGenerator<Uint8Array<ArrayBuffer>, { tokens: number }> {
    await this.read(options);
    return yield* this.#parts.save(this.ids);
  }

  /** For `await using`: it holds no resources of the model, so nothing is done. */
  async [Symbol.asyncDispose](): Promise<void> {}

  #add(ids: readonly number[]): void {
    // Not as arguments of one call: a document would exceed the stack.
    for (const id of ids) this.#all.push(id);
    this.#copy = null;
  }
}
