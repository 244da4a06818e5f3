/** A generation as an answer: its parts as they come, and at the end what was said, thought, called, and the object. */
import { Generation, type GenerationResult, type Outcome, type Piece } from "../engine/generate.ts";
import { NibbleError } from "../format/errors.ts";
import type { ChatMessage } from "../format/template.ts";
import type { AnswerPart, ToolCall } from "./parts.ts";
import type { Reading } from "./reading.ts";
import { checkedBy, type Schema } from "./schema.ts";

/** A generation's result, with what the answer says: content, reasoning, calls, and the object of a schema. */
export interface AnswerResult<Found = undefined> extends GenerationResult {
  /** What the model says, without its reasoning and calls; `text` is all as it was written. */
  readonly content: string;
  readonly reasoning: string;
  readonly calls: readonly ToolCall[];
  /** With a schema: the value that the answer represents; undefined if tools were called instead. */
  readonly object: Found;
  /** The answer as a message, to go on with the conversation. */
  readonly message: ChatMessage;
}

/** The answer does not match its schema: it was cut short, or a check of the schema's library refuses it. */
export class ObjectError extends NibbleError {
  constructor(
    message: string,
    readonly result: GenerationResult,
    options?: ErrorOptions,
  ) {
    super("format", message, options);
  }
}

/** What an answer has in addition to the generation; known when it runs. */
export interface AnswerState extends Outcome {
  reading: Reading | null;
  readonly schema: Schema | undefined;
}

/**
 * As a Generation: iterate for pieces of text and their tokens, or await `result()`. `parts()` gives the parts instead.
 * Whichever is used, it runs once.
 */
export class Answer<Found = undefined> extends Generation {
  readonly #state: AnswerState;
  #whole: Promise<AnswerResult<Found>> | null = null;

  constructor(pieces: AsyncGenerator<Piece, GenerationResult>, state: AnswerState) {
    super(pieces, state);
    this.#state = state;
  }

  /** The parts as they come: text and reasoning in pieces, calls whole. If it fails, first what was held back. */
  async *parts(): AsyncGenerator<AnswerPart, void> {
    const found = () => this.#state.reading?.take() ?? [];
    try {
      for await (const _ of this) yield* found();
    } catch (error) {
      yield* found();
      throw error;
    }
    yield* found();
  }

  /** As `Generation.result`; also rejects with ObjectError if a schema was given and the answer does not match it. */
  override result(): Promise<AnswerResult<Found>> {
    this.#whole ??= this.#finish();
    return this.#whole;
  }

  /** All of the text as it was written. */
  override async text(): Promise<string> {
    return (await this.generationResult()).text;
  }

  /** Counts, timings and the stop reason, whether or not the answer matches its schema. */
  generationResult(): Promise<GenerationResult> {
    return super.result();
  }

  /** What the answer means by its schema. Rejects as `result` does. */
  async object(): Promise<Found> {
    return (await this.result()).object;
  }

  async #finish(): Promise<AnswerResult<Found>> {
    const result = await super.result();
    const { reading, schema } = this.#state;
    const { text: content, reasoning, calls } = reading ?? { text: result.text, reasoning: "", calls: [] };
    const object = schema === undefined || calls.length > 0 ? undefined : await read(schema, content, result);
    const message = messageOf(content, reasoning, calls);
    return { ...result, content, reasoning, calls, object: object as Found, message };
  }
}

async function read(schema: Schema, content: string, result: GenerationResult): Promise<unknown> {
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch (cause) {
    const { stopReason, generatedTokens } = result;
    throw new ObjectError(
      `the answer ended (${stopReason}) after ${generatedTokens} tokens, before its object was whole`,
      result,
      { cause },
    );
  }
  try {
    return await checkedBy(schema, value, "the answer");
  } catch (error) {
    throw new ObjectError((error as Error).message, result, { cause: error });
  }
}

/** As templates expect it: reasoning and calls under the names that they look for. */
function messageOf(content: string, reasoning: string, calls: readonly ToolCall[]): ChatMessage {
  const called = calls.map(({ id, ...call }) => ({ id, type: "function", function: call }));
  return {
    role: "assistant",
    content,
    ...(reasoning === "" ? {} : { reasoning_content: reasoning }),
    // gpt-oss's name for it, which it reads before a call only.
    ...(reasoning !== "" && content === "" && calls.length > 0 ? { thinking: reasoning } : {}),
    ...(calls.length === 0 ? {} : { tool_calls: called }),
  };
}
