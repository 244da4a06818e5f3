/**
 * A loaded model: prompt in, text out. Owns the conversion between text and tokens around a session, and the rule
 * that one generation runs at a time. Refuses to know files and devices beyond closing them.
 */
import type { Allocation, Device } from "../device/contract.ts";
import { ArgumentError, NibbleError } from "../format/errors.ts";
import {
  type ChatMessage,
  type ChatTemplate,
  encodeChat,
  encodePrompt,
  type RenderOptions,
} from "../format/template.ts";
import type { Tokenizer } from "../format/tokenizer.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Model } from "../model/model.ts";
import { type GenerateOptions, Generation, generateTokens } from "./generate.ts";
import type { Plan } from "./plan.ts";
import type { Session } from "./session.ts";

interface Parts {
  model: Model;
  device: Device;
  plan: Plan;
  allocation: Allocation;
  session: Session;
  tokenizer: Tokenizer;
  template: ChatTemplate | null;
}

/** Text for one user turn, a conversation, or token ids as they are. */
export type Prompt = string | readonly ChatMessage[] | { readonly ids: readonly number[] };

export interface PromptOptions {
  /** Text as it is, without the chat template. */
  raw?: boolean;
  /** What the chat template gets besides the messages: tools, enable_thinking, documents. */
  template?: RenderOptions;
}

export class LanguageModel {
  readonly #parts: Parts;
  #running = false;
  #closing: Promise<void> | null = null;

  constructor(parts: Parts) {
    this.#parts = parts;
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

  /** What was allocated, in bytes, and for how long a context. */
  get plan(): Plan {
    return this.#parts.plan;
  }

  /** What computes, for people. */
  get device(): string {
    return this.#parts.device.description;
  }

  /** The tokens that a prompt becomes: through the chat template unless `raw`, or as they are. */
  encode(prompt: Prompt, options: PromptOptions = {}): number[] {
    const { template, tokenizer } = this.#parts;
    if (typeof prompt === "object" && "ids" in prompt) return [...prompt.ids];
    if (this.#isRaw(prompt, options)) {
      if (typeof prompt !== "string")
        throw new ArgumentError("prompt", "a conversation", "text when `raw` is set");
      return encodePrompt(tokenizer, prompt, { template: false });
    }
    if (template === null)
      throw new ArgumentError("prompt", "a conversation", "text: this model has no chat template");
    const messages = typeof prompt === "string" ? [{ role: "user", content: prompt }] : prompt;
    return encodeChat(tokenizer, template, messages, options.template);
  }

  /**
   * Generates a continuation. Iterate over the result for pieces of text as they come; `result()` has counts, timings
   * and the stop reason. What the caches hold already of the prompt's beginning is not processed again.
   */
  generate(prompt: Prompt, options: GenerateOptions & PromptOptions = {}): Generation {
    return new Generation(this.#generate(prompt, options));
  }

  async *#generate(prompt: Prompt, options: GenerateOptions & PromptOptions) {
    if (this.#closing) throw new NibbleError("argument", "the model is closed");
    if (this.#running)
      throw new NibbleError(
        "argument",
        "a generation is running already; finish or abort it before the next",
      );
    this.#running = true;
    try {
      return yield* generateTokens(this.#parts.session, this.tokenizer, this.encode(prompt, options), {
        ...options,
        continues: this.#isRaw(prompt, options),
      });
    } finally {
      this.#running = false;
    }
  }

  /** The prompt is text that goes on, not a turn that ends with the opening of an answer. */
  #isRaw(prompt: Prompt, options: PromptOptions): boolean {
    const { template } = this.#parts;
    return options.raw === true || (template === null && typeof prompt === "string");
  }

  /** Frees threads, memory and files. Safe to call twice. */
  close(): Promise<void> {
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
