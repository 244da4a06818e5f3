/**
 * Chat templates: messages to the text format that a model was trained on. Finds a checkpoint's templates (GGUF keys,
 * tokenizer_config.json, chat_template.jinja) and defines the variables that they expect. `template-jinja.ts` runs
 * them; `encodeChat` (template-prompt.ts) turns messages into ids safely.
 */
import { FormatError, NibbleError } from "./errors.ts";
import { asObject, describe, type JsonObject } from "./json.ts";
import { atOnce, type Slices } from "./slices.ts";
import { JinjaTemplate } from "./template-jinja.ts";
import { specialText } from "./tokenizer-folder.ts";
import { type GgufMetadata, stringList, textValue, tokenId, tokenTexts } from "./tokenizer-metadata.ts";

/** A message of a conversation, as chat templates take it. */
export interface ChatMessage {
  /** The template's roles; most have these. */
  role: "system" | "user" | "assistant" | "tool" | (string & {});
  content: string;
  [key: string]: unknown;
}

/** The variables of a chat template besides the messages. */
export interface RenderOptions {
  /** Ends with the opening of the assistant's turn; default false, as in Hugging Face. */
  addGenerationPrompt?: boolean;
  /** Tool descriptions; if there are any, a checkpoint's "tool_use" template is used. */
  tools?: readonly unknown[] | null;
  /** The time that `strftime_now` returns; default: now. */
  now?: Date;
  /** Anything else is a variable of the template: enable_thinking, date_string, documents. */
  [variable: string]: unknown;
}

/** A model's chat template: messages in, the prompt's text out. */
export interface ChatTemplate {
  /** The template without tools, as published. */
  readonly source: string;
  /**
   * The conversation as text. Throws UnsupportedError with the template's message if it refuses the conversation,
   * FormatError if it exceeds the limits of `template-jinja.ts`.
   */
  render(messages: readonly ChatMessage[], options?: RenderOptions): string;
  /** Renders in slices, for conversations of any length. */
  slices(messages: readonly ChatMessage[], options?: RenderOptions): Slices<string>;
  /**
   * Why it cannot be used, or not always: it is not a template, refuses the simplest conversation, or uses something
   * unknown. One line for each problem, found when first asked for.
   */
  readonly warnings: readonly string[];
}

const KEY = "tokenizer.chat_template";
const TOOLS = "tool_use";
/** The variables that name tokens, and the GGUF name of each token's id. */
const SPECIALS = { bos_token: "bos", eos_token: "eos", unk_token: "unknown", pad_token: "padding" };

/** The chat template of GGUF metadata; null if there is none. Throws FormatError for a wrong type. */
export function chatTemplateFromGguf(metadata: GgufMetadata): ChatTemplate | null {
  const sources = new Map<string, string>();
  for (const name of ["default", ...(stringList(metadata, "tokenizer.chat_templates") ?? [])]) {
    const source = textValue(metadata, name === "default" ? KEY : `${KEY}.${name}`);
    if (source !== null) sources.set(name, source);
  }
  if (sources.size === 0) return null;
  const texts = tokenTexts(metadata);
  const specials: Record<string, string> = {};
  for (const [variable, name] of Object.entries(SPECIALS)) {
    const id = tokenId(metadata, name, texts.length);
    specials[variable] = id === null ? "" : texts[id];
  }
  return new NamedTemplates(sources, specials, KEY);
}

/**
 * The chat template of a folder; null if there is none. `config`: tokenizer_config.json, parsed; `jinja`: the text of
 * chat_template.jinja, which has precedence; `specialTokens`: special_tokens_map.json, parsed.
 */
export function chatTemplateFromConfig(
  config: unknown,
  jinja?: string | null,
  specialTokens?: unknown,
): ChatTemplate | null {
  const place = "tokenizer_config.json";
  const fields = asObject(config ?? {}, place);
  const sources = readSources(fields.chat_template, `${place}: chat_template`);
  if (typeof jinja === "string") sources.set("default", jinja);
  if (sources.size === 0) return null;
  const map = asObject(specialTokens ?? {}, "special_tokens_map.json");
  const specials: Record<string, string> = {};
  for (const name of Object.keys(SPECIALS)) {
    specials[name] =
      specialText(fields[name], `${place}: ${name}`) ??
      specialText(map[name], `special_tokens_map.json: ${name}`) ??
      "";
  }
  return new NamedTemplates(
    sources,
    specials,
    typeof jinja === "string" ? "chat_template.jinja" : `${place}: chat_template`,
  );
}

/** "chat_template": a text, or a list of {name, template}. */
function readSources(value: unknown, place: string): Map<string, string> {
  if (value === undefined || value === null) return new Map();
  if (typeof value === "string") return new Map([["default", value]]);
  if (!Array.isArray(value)) throw new FormatError(place, describe(value), "a text, or a list of named ones");
  return new Map(
    value.map((entry, at) => {
      const { name, template }: JsonObject = asObject(entry, `${place}[${at}]`);
      if (typeof name === "string" && typeof template === "string") return [name, template];
      throw new FormatError(`${place}[${at}]`, describe(entry), '{"name": text, "template": text}');
    }),
  );
}

class NamedTemplates implements ChatTemplate {
  readonly source: string;
  readonly #default: JinjaTemplate | FormatError;
  readonly #tools: JinjaTemplate | FormatError;
  readonly #specials: Readonly<Record<string, string>>;
  #warnings: readonly string[] | null = null;

  constructor(
    sources: ReadonlyMap<string, string>,
    specials: Readonly<Record<string, string>>,
    place: string,
  ) {
    const source = sources.get("default") ?? [...sources.values()][0];
    const tools = sources.get(TOOLS);
    this.source = source;
    this.#default = parsed(source, place);
    this.#tools = tools === undefined ? this.#default : parsed(tools, `${place} (${TOOLS})`);
    this.#specials = specials;
  }

  render(messages: readonly ChatMessage[], options?: RenderOptions): string {
    return atOnce(this.slices(messages, options));
  }

  slices(messages: readonly ChatMessage[], options: RenderOptions = {}): Slices<string> {
    const { addGenerationPrompt = false, tools = null, now = new Date(), ...variables } = options;
    const template = tools !== null && tools.length > 0 ? this.#tools : this.#default;
    if (template instanceof FormatError) throw template;
    return template.slices(
      {
        documents: null,
        ...variables,
        ...this.#specials,
        messages,
        tools,
        add_generation_prompt: addGenerationPrompt,
      },
      now,
    );
  }

  get warnings(): readonly string[] {
    this.#warnings ??= [...this.#findProblems()];
    return this.#warnings;
  }

  *#findProblems(): Iterable<string> {
    for (const template of new Set([this.#default, this.#tools])) {
      if (template instanceof FormatError) yield `the chat template cannot be read: ${template.message}`;
      else
        for (const name of template.unknownNames())
          yield `the chat template uses the ${name}, which is not supported: conversations that need it will fail`;
    }
    if (this.#default instanceof FormatError) return;
    try {
      this.render([{ role: "user", content: "question" }], { addGenerationPrompt: true });
    } catch (error) {
      if (!(error instanceof NibbleError)) throw error;
      yield `the chat template fails on a plain question: ${error.message}`;
    }
  }
}

/** An invalid template is an error only when it is needed: text can be continued without it. */
function parsed(source: string, place: string): JinjaTemplate | FormatError {
  try {
    return new JinjaTemplate(source, place);
  } catch (error) {
    if (error instanceof FormatError) return error;
    throw error;
  }
}
