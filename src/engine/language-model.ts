/**
 * A loaded model: prompt in, text out. Owns the conversion between text and tokens around its sessions, and that each
 * generation gets one. Refuses to know files and devices beyond closing them.
 */
import type { CacheOwner } from "../cache/saved-cache.ts";
import type { Allocation, Device } from "../device/contract.ts";
import { AnswerIds } from "../format/answer-ids.ts";
import { ArgumentError, NibbleError } from "../format/errors.ts";
import { atOnce, inSlices, type Slices } from "../format/slices.ts";
import type { Source } from "../format/source.ts";
import { type ChatMessage, type ChatTemplate, chatSlices, type RenderOptions } from "../format/template.ts";
import { type Tokenizer, withBos } from "../format/tokenizer.ts";
import type { ModelConfig } from "../model/config.ts";
import { fingerprint } from "../model/fingerprint.ts";
import type { Model } from "../model/model.ts";
import { endedWhenDropped } from "./dropped.ts";
import { type GenerateOptions, Generation, generateTokens } from "./generate.ts";
import type { Plan } from "./plan.ts";
import type { Session } from "./session.ts";
import { SessionPool } from "./session-pool.ts";
import { restoreSession, saveSession } from "./session-save.ts";

interface Parts {
  model: Model;
  device: Device;
  plan: Plan;
  allocation: Allocation;
  sessions: readonly Session[];
  tokenizer: Tokenizer;
  template: ChatTemplate | null;
}

const MEMORY_UNKNOWN =
  "the system does not say how much memory this GPU has, so the context was planned without it; --memory (memoryBytes) says it";

const READING = "reading the prompt";

/** Text for one user turn, a conversation, or token ids as they are. */
export type Prompt = string | readonly ChatMessage[] | { readonly ids: readonly number[] };

export interface PromptOptions {
  /** Text as it is, without the chat template. */
  raw?: boolean;
  /** What the chat template gets besides the messages: tools, enable_thinking, documents. */
  template?: RenderOptions;
}

/**
 *     const model = await load("needle", { sessions: 4 });
 *     const answers = await Promise.all(questions.map((question) => model.generate(question).text()));
 *
 * Up to `sessions` generations run at once; their tokens and the chunks of their prompts take turns on the device. More
 * wait in the order in which they began, each until a session is free or its `signal` fires. So a loop over one
 * generation must not wait for another of the same model unless there is a session for both.
 *
 * A generation gets the session that holds the beginning of its prompt and little else, or else the one that nobody has
 * used for longest; what any other session holds of the prompt's beginning is copied instead of read, also while that
 * one is still at it. `GenerationResult.reusedTokens` counts all that was not read.
 */
export class LanguageModel {
  readonly #parts: Parts;
  readonly #pool: SessionPool;
  readonly #answers: AnswerIds;
  #closing: Promise<void> | null = null;
  /** Found out when it is first needed. */
  #ownership: Promise<CacheOwner> | null = null;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#pool = new SessionPool(parts.sessions);
    this.#answers = new AnswerIds(parts.tokenizer);
  }

  /** Generations that have a session, and those that wait for one. `plan.sessions` is how many there are. */
  get activity(): { running: number; waiting: number } {
    return this.#pool.activity;
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

  /** What the files or the machine leave open, so that answers or the plan may be wrong: one line each, for people. */
  get warnings(): readonly string[] {
    const { tokenizer, template, device, plan } = this.#parts;
    // A page's device was never asked: no browser tells.
    const isUnknown = device.memory === null && plan.memory === null;
    return [...tokenizer.warnings, ...(template?.warnings ?? []), ...(isUnknown ? [MEMORY_UNKNOWN] : [])];
  }

  /** What was allocated, in bytes, and for how long a context. */
  get plan(): Plan {
    return this.#parts.plan;
  }

  /** What computes, for people. */
  get device(): string {
    return this.#parts.device.description;
  }

  /**
   * The tokens that a prompt becomes: through the chat template unless `raw`, or as they are. In a conversation answers of
   * this model keep the ids that they were generated with, also where the tokenizer would cut them in another way, so that
   * they are not read again. For that, give `generate` the conversation, or this very list as `{ ids }`.
   */
  encode(prompt: Prompt, options: PromptOptions = {}): number[] {
    return atOnce(this.#slices(prompt, options));
  }

  /**
   * As `encode`, with pauses in which timers, sockets and signals get their turn: for prompts of unknown length where
   * others must not wait. AbortedError once the signal has fired.
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
    const messages = typeof prompt === "string" ? [{ role: "user", content: prompt }] : prompt;
    return yield* chatSlices(tokenizer, template, messages, options.template, this.#answers);
  }

  /** The tokens of a conversation, as `encode` gave them, whose answer begins with this text. */
  begin(
    conversation: readonly number[],
    text: string,
    options: { signal?: AbortSignal } = {},
  ): Promise<number[]> {
    return inSlices(this.#answers.begin(conversation, text), READING, options.signal);
  }

  /**
   * Generates a continuation. Iterate over the result for pieces of text as they come; `result()` has counts, timings
   * and the stop reason. What the caches hold already of the prompt's beginning is not processed again.
   */
  generate(prompt: Prompt, options: GenerateOptions & PromptOptions = {}): Generation {
    return new Generation(endedWhenDropped(this.#generate(prompt, options)));
  }

  async *#generate(prompt: Prompt, options: GenerateOptions & PromptOptions) {
    const ids = await this.encodeInSlices(prompt, options);
    const session = await this.#pool.take(ids, options.signal);
    const generated: number[] = [];
    try {
      const continues = this.#isRaw(prompt, options);
      return yield* generateTokens(session, this.tokenizer, ids, { ...options, continues }, generated);
    } finally {
      this.#pool.giveBack(session);
      this.#answers.remember(typeof prompt === "object" && "ids" in prompt ? prompt.ids : ids, generated);
    }
  }

  /**
   * What a session holds of a prompt's beginning, as the bytes of a file in order: with it the text goes on without being
   * read again, on any device, with the same model and KV format and a context that holds it. In Node:
   *
   *     await writeFile("talk.kv", model.saveSession(messages));
   *     await model.restoreSession(await fileSource("talk.kv"));
   *
   * ArgumentError when no session holds any of it, or while that session is generating.
   */
  saveSession(prompt: Prompt, options: PromptOptions = {}): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
    return endedWhenDropped(this.#saveSession(prompt, options));
  }

  async *#saveSession(
    prompt: Prompt,
    options: PromptOptions,
  ): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
    yield* saveSession(this.#pool, await this.#owner(), this.encode(prompt, options));
  }

  /**
   * Fills the session that a generation with the saved tokens would get, and resolves with how many they are; what it
   * held is lost, also when the file proves damaged on the way. FormatError unless the file is whole and was saved with
   * this model, KV format, RoPE and shapes. The caller closes `source`.
   */
  async restoreSession(source: Source, options: { signal?: AbortSignal } = {}): Promise<{ tokens: number }> {
    const [session] = this.#parts.sessions;
    const owner = await this.#owner();
    const ids = await restoreSession(this.#pool, session, owner, source, options.signal);
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

  /** The prompt is text that goes on, not a turn that ends with the opening of an answer. */
  #isRaw(prompt: Prompt, options: PromptOptions): boolean {
    const { template } = this.#parts;
    return options.raw === true || (template === null && typeof prompt === "string");
  }

  /** Frees threads, memory and files. Safe to call twice. */
  close(): Promise<void> {
    this.#pool.close(new NibbleError("argument", "the model is closed"));
    this.#closing ??= (async () => {
      try {
        await this.#parts.allocation.close();
      } finally {
        await this.#parts.model.checkpoint.close();
      }
    })();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
