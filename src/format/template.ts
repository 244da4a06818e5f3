/**
 * Chat templates: messages to the text that a model was trained on. Owns where checkpoints keep templates (GGUF
 * keys, tokenizer_config.json, chat_template.jinja) and the variables that templates expect. Refuses to know how
 * Jinja runs (`template-jinja.ts`) and tokens; `encodeChat` (template-prompt.ts) turns messages into ids safely.
 */
import { FormatError, NibbleError } from "./errors.ts";
import { asObject, describe, type JsonObject } from "./json.ts";
import { atOnce, type Slices } from "./slices.ts";
import { JinjaTemplate } from "./template-jinja.ts";
import { specialText } from "./tokenizer-folder.ts";
import { type GgufMetadata, stringList, textValue, tokenId, tokenTexts } from "./tokenizer-metadata.ts";

/** A message of a conversation, as chat templates take them. */
export interface ChatMessage {
  /** Of the template; most know these. */
  role: "system" | "user" | "assistant" | "tool" | (string & {});
  content: string;
  [key: string]: unknown;
}

/** What a chat template is rendered with besides the messages. */
export interface RenderOptions {
  /** Ends with the opening of the assistant's turn; default false, as in Hugging Face. */
  addGenerationPrompt?: boolean;
  /** Tool descriptions; a checkpoint's "tool_use" template is taken when there are any. */
  tools?: readonly unknown[] | null;
  /** What `strftime_now` reads; default the present. */
  now?: Date;
  /** Anything else is a variable of the template: enable_thinking, date_string, documents. */
  [variable: string]: unknown;
}

/** A model's chat template: messages in, the prompt's text out. */
export interface ChatTemplate {
  /** The template without tools, as published. */
  readonly source: string;
  /**
   * The conversation as text. UnsupportedError when the template refuses it (with the template's message),
   * FormatError when the template passes the bounds of `template-jinja.ts`.
   */
  render(messages: readonly ChatMessage[], options?: RenderOptions): string;
  /** The same with places to pause, for conversations of any length. */
  slices(messages: readonly ChatMessage[], options?: RenderOptions): Slices<string>;
  /**
   * Why it cannot be used, or not for all: it is no template, refuses the simplest conversation, or names what is not
   * there. One line each, for people; found out when it is first asked for.
   */
  readonly warnings: readonly string[];
}

const KEY = "tokenizer.chat_template";
const TOOLS = "tool_use";
/** The variables that name tokens, and the GGUF name of each token's id. */
const SPECIALS = { bos_token: "bos", eos_token: "eos", unk_token: "unknown", pad_token: "padding" };

/** The chat template of GGUF metadata; null when there is none. FormatError for one of the wrong type. */
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
 * The chat template of a folder; null when there is none. `config`: tokenizer_config.json, parsed; `jinja`: the text
 * of chat_template.jinja, which wins; `specialTokens`: special_tokens_map.json, parsed.
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
          yield `the chat template names the ${name}, which is not there: conversations that need it will fail`;
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

/** A template that is none is an error only when it is needed: text can be continued without. */
function parsed(source: string, place: string): JinjaTemplate | FormatError {
  try {
    return new JinjaTemplate(source, place);
  } catch (error) {
    if (error instanceof FormatError) return error;
    throw error;
  }
}
