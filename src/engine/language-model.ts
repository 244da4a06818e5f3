/** A loaded model: prompt in, text out. Converts between text and tokens around its scheduler. */
import type { CacheOwner } from "../cache/saved-cache.ts";
import type { Allocation, Device } from "../device/contract.ts";
import { AnswerIds } from "../format/answer-ids.ts";
import { ArgumentError, NibbleError } from "../format/errors.ts";
import { type PromptMessage, plainMessages } from "../format/plain-messages.ts";
import { atOnce, inSlices, type Slices } from "../format/slices.ts";
import type { Source } from "../format/source.ts";
import type { ChatTemplate, RenderOptions } from "../format/template.ts";
import { chatSlices } from "../format/template-prompt.ts";
import { type Tokenizer, withBos } from "../format/tokenizer.ts";
import type { ModelConfig } from "../model/config.ts";
import { fingerprint } from "../model/fingerprint.ts";
import type { Model } from "../model/model.ts";
import type { Suppressed } from "./default-sampling.ts";
import { endedWhenDropped } from "./dropped.ts";
import {
  EMBED_OPTIONS,
  type EmbeddingFacts,
  type Embeddings,
  type EmbedOptions,
  poolingOf,
  StatePooling,
} from "./embed.ts";
import { type GenerateOptions, Generation, generateTokens, type Outcome, withDefaults } from "./generate.ts";
import { guessWith } from "./guess-with.ts";
import { closeAll, type LoadedModel } from "./loaded-model.ts";
import { OpenText } from "./open-text.ts";
import { checkKnown, checkNames } from "./option-names.ts";
import { lastHidden, type Plan } from "./plan.ts";
import type { SampleOptions } from "./sample.ts";
import type { Scheduler } from "./scheduler.ts";
import { Text } from "./text.ts";
import { restoreText, saveText } from "./text-save.ts";

/** The components of a model. */
export interface ModelParts {
  model: Model;
  device: Device;
  plan: Plan;
  allocation: Allocation;
  scheduler: Scheduler;
  /** Why the cache's format is not the device's default. Default: it is, or was asked for. */
  kvNote?: string | null;
  tokenizer: Tokenizer;
  template: ChatTemplate | null;
  /** Default sampling of generations. Default: the most likely token. */
  sampling?: SampleOptions;
  suppressed?: Suppressed | null;
  /** The file's settings for embeddings. Default: none. */
  embedding?: EmbeddingFacts;
}

const MEMORY_UNKNOWN =
  "the system does not report how much memory this GPU has, so the context was planned without a limit; --memory (memoryBytes) sets one";

const READING = "reading the prompt";

/** Text for one user turn, a conversation, or token ids as they are. */
export type Prompt = string | readonly PromptMessage[] | { readonly ids: readonly number[] };

/** How a prompt becomes tokens. */
export interface PromptOptions {
  /** Use the text without the chat template. */
  raw?: boolean;
  /** Further variables of the chat template: tools, enable_thinking, documents. */
  template?: RenderOptions;
}

/**
 *     const model = await load("needle", { parallel: 4 });
 *     const answers = await Promise.all(questions.map((question) => model.generate(question).text()));
 *
 * Up to `parallel` generations run at once: one step of the device serves all of them. Further ones wait in the order
 * in which they began, each until another ends or its `signal` fires. So a loop over one generation must not wait for
 * another of the same model unless both may run.
 *
 * All texts share a cache of `cacheTokens` tokens. Its content stays until other texts need the space, also after a
 * generation has ended. A prompt with the same prefix does not read it again, even if it arrives while the first is
 * still being read; `GenerationResult.reusedTokens` counts these tokens. A generation waits until there is space for
 * its prompt and the next few hundred tokens; nothing of a running one is lost.
 */
export class EngineModel {
  readonly #parts: ModelParts;
  readonly #answers: AnswerIds;
  #draft: LoadedModel | null = null;
  #closing: Promise<void> | null = null;
  /** Computed when it is first needed. */
  #ownership: Promise<CacheOwner> | null = null;

  constructor(parts: ModelParts) {
    this.#parts = parts;
    this.#answers = new AnswerIds(parts.tokenizer);
  }

  /**
   * The number of running generations, at most `plan.parallel`, and of those that wait for another to end or for space
   * in the cache.
   */
  get activity(): { running: number; waiting: number } {
    return this.#parts.scheduler.activity;
  }

  /** Tokens of the cache: in total, used by running generations, and kept from others. */
  get cache(): { tokens: number; used: number; known: number } {
    return this.#parts.scheduler.cache;
  }

  get config(): ModelConfig {
    return this.#parts.model.config;
  }

  get tokenizer(): Tokenizer {
    return this.#parts.tokenizer;
  }

  /** null: the model has none; prompts are then raw text. */
  get chatTemplate(): ChatTemplate | null {
    return this.#parts.template;
  }

  /**
   * Default sampling: as the model's makers say (generation_config.json, general.sampling.*), else a temperature of 0.7
   * for models with a chat template. `{ temperature: 0 }`: always the most likely token.
   */
  get sampling(): SampleOptions {
    return this.#parts.sampling ?? {};
  }

  /**
   * Uncertainties about the files or the machine that may make answers or the plan wrong, and a cache format that was chosen for
   * the model's sake: one line each, for people.
   */
  get warnings(): readonly string[] {
    const { tokenizer, template, device, plan, kvNote } = this.#parts;
    // A page's device is never asked: browsers do not report it.
    const isUnknown = device.memory === null && plan.memory === null;
    return [
      ...tokenizer.warnings,
      ...(template?.warnings ?? []),
      ...(isUnknown ? [MEMORY_UNKNOWN] : []),
      ...(kvNote ? [kvNote] : []),
    ];
  }

  /** What was allocated, in bytes, and the context it is for. */
  get plan(): Plan {
    return this.#parts.plan;
  }

  /** A description of the device, for people. */
  get device(): string {
    return this.#parts.device.description;
  }

  /**
   * The tokens of a prompt: through the chat template unless `raw`, or unchanged. In a conversation, answers of this
   * model keep the ids that they were generated with, even if the tokenizer would split them differently, so that they
   * are not read again. For that, pass the conversation to `generate`, or this very array as `{ ids }`.
   */
  encode(prompt: Prompt, options: PromptOptions = {}): number[] {
    return atOnce(this.#slices(prompt, options));
  }

  /**
   * Like `encode`, with pauses in which timers, sockets and signals are served: for prompts of unknown length where
   * others must not wait. Throws AbortedError once the signal has fired.
   */
  encodeInSlices(prompt: Prompt, options: PromptOptions & { signal?: AbortSignal } = {}): Promise<number[]> {
    return inSlices(this.#slices(prompt, options), READING, options.signal);
  }

  *#slices(prompt: Prompt, options: PromptOptions): Slices<number[]> {
    const { template, tokenizer } = this.#parts;
    if (typeof prompt === "object" && "ids" in prompt) return [...prompt.ids];
    if (this.#isRaw(prompt, options)) {
      if (typeof prompt !== "string")
        throw new ArgumentError("prompt", "a conversation", "text when `raw` is set");
      return withBos(tokenizer, yield* tokenizer.slices(prompt));
    }
    if (template === null)
      throw new ArgumentError("prompt", "a conversation", "text: this model has no chat template");
    const messages = typeof prompt === "string" ? [{ role: "user", content: prompt }] : plainMessages(prompt);
    return yield* chatSlices(tokenizer, template, messages, options.template, this.#answers);
  }

  /** The tokens of a conversation, as returned by `encode`, whose answer begins with this text. */
  begin(
    conversation: readonly number[],
    text: string,
    options: { signal?: AbortSignal } = {},
  ): Promise<number[]> {
    return inSlices(this.#answers.begin(conversation, text), READING, options.signal);
  }

  /**
   * Generates a continuation. Iterate over the result for pieces of text as they come; `result()` has counts, timings
   * and the stop reason. The prefix of the prompt that is in the cache is not processed again.
   */
  generate(prompt: Prompt, options: GenerateOptions & PromptOptions = {}): Generation {
    return this.#generation(prompt, options);
  }

  /** As `generate`, from tokens: without looking for reasoning and calls in the answer. `raw`: the tokens are a text. */
  generateFrom(
    ids: readonly number[],
    options: GenerateOptions & Pick<PromptOptions, "raw"> = {},
  ): Generation {
    return this.#generation({ ids }, options);
  }

  #generation(prompt: Prompt, options: GenerateOptions & PromptOptions): Generation {
    const outcome: Outcome = { result: null };
    return new Generation(this.#generate(prompt, options, outcome), outcome);
  }

  async *#generate(prompt: Prompt, options: GenerateOptions & PromptOptions, outcome: Outcome) {
    checkNames(options);
    const ids = await this.encodeInSlices(prompt, options);
    const continues = this.#isRaw(prompt, options);
    const text = new Text(this.#parts.scheduler);
    const generated: number[] = [];
    try {
      const { suppressed } = this.#parts;
      const all = { ...withDefaults(options, this.sampling), continues, suppressed };
      return yield* generateTokens(text, this.tokenizer, ids, all, generated, outcome);
    } finally {
      this.#answers.remember(typeof prompt === "object" && "ids" in prompt ? prompt.ids : ids, generated);
    }
  }

  /** The file's settings for embeddings; a pooling of null: the model is not made for them. */
  get embedding(): EmbeddingFacts {
    return this.#parts.embedding ?? { pooling: null, endId: null };
  }

  /**
   * Texts as vectors [hidden]: the pooled states before the output matrix, with length 1. Load the model with `{
   * embeddings: true }`. Throws UnsupportedError for a model that is not made for it (`embedding.pooling` is null),
   * unless `pooling` is given; ContextError for a text beyond the context; ArgumentError for an empty one.
   */
  async embed(
    texts: readonly (string | { readonly ids: readonly number[] })[],
    options: EmbedOptions = {},
  ): Promise<Embeddings> {
    checkKnown(options, EMBED_OPTIONS);
    const { scheduler, tokenizer, plan, model } = this.#parts;
    const label = lastHidden(model.config);
    if (!plan.graph.labels.has(label))
      throw new ArgumentError("embeddings", false, "true when the model is loaded (--embeddings)");
    const pooling = poolingOf(this.embedding, options);
    const { signal, dimensions } = options;
    const { hidden } = model.config;
    if (
      dimensions !== undefined &&
      !(Number.isInteger(dimensions) && dimensions >= 1 && dimensions <= hidden)
    )
      throw new ArgumentError("dimensions", dimensions, `integers 1 to ${hidden}`);
    const { endId } = this.embedding;
    const vectors: Float32Array[] = [];
    let tokens = 0;
    for (const text of texts) {
      const cut =
        typeof text === "string" ? await inSlices(tokenizer.slices(text), READING, signal) : [...text.ids];
      const found = withBos(tokenizer, cut);
      const ids = endId === null || found.at(-1) === endId ? found : [...found, endId];
      const pool = new StatePooling(hidden);
      const into = new Text(scheduler);
      const step = pooling === "mean" ? plan.graph.maxOutputs : 1;
      const read = pooling === "cls" ? ids.slice(0, 1) : ids;
      // If only the last token's state is needed, all others are read at once; a mean takes the states of some tokens
      // at a time.
      for (
        let at = pooling === "mean" ? Math.min(step, read.length) : read.length;
        ;
        at = Math.min(at + step, read.length)
      ) {
        const count = pooling === "mean" ? (at % step === 0 ? step : at % step) : 1;
        for (const state of await into.states(read.slice(0, at), label, count, { signal })) pool.add(state);
        if (at >= read.length) break;
      }
      tokens += ids.length;
      vectors.push(pool.vector(options));
    }
    return { vectors, tokens, pooling };
  }

  /** A text that can be extended, continued, forked and saved; it begins with the prompt. Nothing is read yet. */
  open(prompt: Prompt = { ids: [] }, options: PromptOptions = {}): OpenText {
    const { scheduler, tokenizer } = this.#parts;
    const ids = this.encode(prompt, options);
    const save = (all: readonly number[]) => this.saveSession({ ids: all });
    const begin = (text: string) => withBos(tokenizer, tokenizer.encode(text));
    const { sampling } = this;
    const { suppressed } = this.#parts;
    return new OpenText({ text: new Text(scheduler), tokenizer, sampling, suppressed, begin, save }, ids);
  }

  /** How many tokens of a prompt's prefix are in the cache and would not be read again. */
  held(prompt: Prompt, options: PromptOptions = {}): number {
    const { tokens, release } = this.#parts.scheduler.keep(this.encode(prompt, options));
    release();
    return tokens;
  }

  /**
   * The cache of a prompt, as the bytes of a file in order. With it the text can continue without being read again, on
   * any device, with the same model and KV format and a context that is long enough. In Node:
   *
   *     await writeFile("talk.kv", model.saveSession(messages));
   *     await model.restoreSession(await fileSource("talk.kv"));
   *
   * Throws ArgumentError if not all of the prompt is in the cache; `held` says how much is. The generator returns the
   * number of tokens that it saved.
   */
  saveSession(
    prompt: Prompt,
    options: PromptOptions = {},
  ): AsyncGenerator<Uint8Array<ArrayBuffer>, { tokens: number }> {
    return endedWhenDropped(this.#saveSession(prompt, options));
  }

  async *#saveSession(
    prompt: Prompt,
    options: PromptOptions,
  ): AsyncGenerator<Uint8Array<ArrayBuffer>, { tokens: number }, undefined> {
    const ids = this.encode(prompt, options);
    yield* saveText(this.#parts.scheduler, await this.#owner(), ids);
    return { tokens: ids.length };
  }

  /**
   * Restores a saved text, so that a generation that begins with it does not read it, and resolves with its number of
   * tokens. Throws FormatError unless the file is complete and was saved with this model, KV format, RoPE and shapes.
   * The caller closes `source`.
   */
  async restoreSession(source: Source, options: { signal?: AbortSignal } = {}): Promise<{ tokens: number }> {
    const { scheduler } = this.#parts;
    const ids = await restoreText(scheduler, await this.#owner(), source, options.signal);
    this.#answers.restore(ids);
    return { tokens: ids.length };
  }

  #owner(): Promise<CacheOwner> {
    const { model, plan } = this.#parts;
    this.#ownership ??= fingerprint(model, plan.graph).then(({ model: found, rope }) => {
      return { name: model.config.name, fingerprint: found, rope };
    });
    return this.#ownership;
  }

  /** The prompt is text to be continued, not a turn that ends with the opening of an answer. */
  #isRaw(prompt: Prompt, options: PromptOptions): boolean {
    const { template } = this.#parts;
    return options.raw === true || (template === null && typeof prompt === "string");
  }

  /** Takes over a smaller model, which guesses for this one. */
  guessWith(draft: LoadedModel): void {
    guessWith(this.#parts, draft);
    this.#draft = draft;
  }

  /** Frees threads, memory and files. Safe to call twice. */
  close(): Promise<void> {
    const all: Pick<LoadedModel, "scheduler" | "allocation" | "model">[] = [this.#parts];
    if (this.#draft) all.push(this.#draft);
    for (const { scheduler } of all) scheduler.close(new NibbleError("argument", "the model is closed"));
    this.#closing ??= closeAll(all);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
