/**
 * A language model whose answers can be required to match a schema and to call tools: these options of `generate`, and
 * the threads that follow grammars; all else is the engine's.
 */
import type { GenerateOptions, Generation, GenerationResult, Piece } from "../engine/generate.ts";
import { EngineModel, type Prompt, type PromptOptions } from "../engine/language-model.ts";
import { checkNames } from "../engine/option-names.ts";
import { ArgumentError } from "../format/errors.ts";
import { Answer, type AnswerState } from "./answer.ts";
import { badValue } from "./errors.ts";
import { afterReasoning, answerStart } from "./grammar/after-reasoning.ts";
import type { GrammarToMake, OpenGrammar } from "./grammar/grammar.ts";
import { Grammars } from "./grammar/grammars.ts";
import { schemaToMake } from "./grammar/made.ts";
import { shown } from "./object-fields.ts";
import { Reading } from "./reading.ts";
import { jsonSchemaOf, type ObjectOf, type Schema } from "./schema.ts";
import { type Tool, toolsOf } from "./tool.ts";
import { askTools } from "./tools.ts";

/** Options of `LanguageModel.generate`: those of a generation and its prompt, a schema, tools. */
export interface AnswerOptions<Asked extends Schema | undefined = undefined>
  extends GenerateOptions,
    PromptOptions {
  /** The answer is JSON that matches it: a JSON schema, or one of zod, arktype or valibot. Properties keep its order. */
  schema?: Asked;
  /** What the model may call; the prompt is a conversation. */
  tools?: readonly Tool[];
  /** auto (the default): the model decides; required: it calls a tool; or the tool to call. */
  toolChoice?: "auto" | "none" | "required" | { readonly name: string };
  /** Several calls in one answer. Default true. */
  parallelCalls?: boolean;
}

/**
 * A loaded model: it generates answers, which can be required to match a schema and to call tools, embeds texts and saves
 * their caches. `close` frees its memory.
 */
export class LanguageModel extends EngineModel {
  #grammars: Grammars | null = null;

  /**
   * Generates an answer. Iterate over it for pieces of text as they come, or over its `parts()` for text, reasoning and
   * calls apart; `result()` has all of these, counts, timings and the stop reason.
   *
   *     const { object } = await model.generate(question, { schema: z.object({ city: z.string() }) }).result();
   *
   * The part of the prompt's beginning that is in the cache is not processed again. Errors of the options come when it
   * runs: PlaceError (a NibbleError) names the place in a schema or tool.
   */
  override generate<Asked extends Schema | undefined = undefined>(
    prompt: Prompt,
    options?: AnswerOptions<Asked> & { tools?: undefined },
  ): Answer<ObjectOf<Asked>>;
  /** The object is undefined where tools were called instead. */
  override generate<Asked extends Schema | undefined = undefined>(
    prompt: Prompt,
    options?: AnswerOptions<Asked>,
  ): Answer<ObjectOf<Asked> | undefined>;
  override generate(prompt: Prompt, options: AnswerOptions<Schema | undefined> = {}): Answer<unknown> {
    const state: AnswerState = { reading: null, schema: options.schema, result: null };
    return new Answer(this.#answer(prompt, options, state), state);
  }

  async *#answer(
    prompt: Prompt,
    options: AnswerOptions<Schema | undefined>,
    state: AnswerState,
  ): AsyncGenerator<Piece, GenerationResult> {
    checkNames(options, ["schema", "tools", "toolChoice", "parallelCalls"]);
    const { schema, tools = [], toolChoice = "auto", parallelCalls = true, ...others } = options;
    const { tokenizer, chatTemplate } = this;
    const isRaw = options.raw === true || (typeof prompt === "string" && chatTemplate === null);
    if (isRaw && tools.length > 0)
      throw new ArgumentError("prompt", "text as it is", "a conversation where tools are given");
    const asked = toolsOf(tools);
    const chosen =
      typeof toolChoice === "object" ? asked.find(({ name }) => name === toolChoice.name) : toolChoice;
    if (chosen === undefined)
      throw badValue(
        "toolChoice",
        shown((toolChoice as { name: string }).name),
        asked.map(({ name }) => name).join(", "),
      );
    const form = schema === undefined ? null : schemaToMake(jsonSchemaOf(schema, "schema"), "schema", true);
    const { described, calls, grammar } = askTools(chatTemplate, asked, chosen, !parallelCalls, form);
    if (grammar && options.constraint)
      throw new ArgumentError("constraint", "given", "no constraint together with a schema or forced calls");
    const template = { ...others.template, ...(described ? { tools: described } : {}) };
    const ids = await this.encodeInSlices(prompt, { ...others, template });
    const start = answerStart(ids, tokenizer, chatTemplate);
    state.reading = new Reading({
      tokenizer,
      calls,
      opened: isRaw ? "begun" : start.opened,
      stop: others.stop,
    });
    const followed = grammar && (await this.#follow(grammar, others.signal));
    const isLater = !isRaw && !grammar?.isWhole;
    const constraint = followed && isLater ? afterReasoning(followed, start, tokenizer) : followed;
    let generation: Generation | null = null;
    let isWhole = false;
    try {
      // A list of ids is recognised by its identity, so the same object is passed on.
      const given = typeof prompt === "object" && "ids" in prompt ? prompt.ids : ids;
      generation = this.generateFrom(given, { ...others, raw: isRaw, ...(constraint ? { constraint } : {}) });
      for await (const piece of generation) {
        state.reading.push(piece.ids);
        yield piece;
      }
      const result = await generation.result();
      isWhole = true;
      state.reading.end();
      return result;
    } finally {
      followed?.close();
      if (generation && !isWhole) {
        state.reading.end();
        // The result if the loop was left. If the generation failed, its error has already reached the caller.
        state.result = await generation.result().catch(() => null);
      }
    }
  }

  #follow(grammar: GrammarToMake, signal: AbortSignal | undefined): Promise<OpenGrammar> {
    this.#grammars ??= new Grammars(this.tokenizer, this.config.vocab);
    return this.#grammars.open(grammar, signal);
  }

  override close(): Promise<void> {
    this.#grammars?.close();
    return super.close();
  }
}
