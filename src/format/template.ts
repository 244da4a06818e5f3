/**
 * Chat templates: messages to the text that a model was trained on. Owns where checkpoints keep templates (GGUF
 * keys, tokenizer_config.json, chat_template.jinja) and the variables that templates expect. Refuses to know how
 * Jinja runs (`template-jinja.ts`) and tokens; `encodeChat` (template-prompt.ts) turns messages into ids safely.
 */
import { FormatError } from "./errors.ts";
import { asObject, describe, type JsonObject } from "./json.ts";
import { JinjaTemplate } from "./template-jinja.ts";
import { specialText } from "./tokenizer-folder.ts";
import { type GgufMetadata, stringList, textValue, tokenId, tokenTexts } from "./tokenizer-metadata.ts";

export { encodeChat, encodePrompt, takesSystem, withDocument } from "./template-prompt.ts";

export interface ChatMessage {
  role: string;
  content: string;
  [key: string]: unknown;
}

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

export interface ChatTemplate {
  /** The template without tools, as published. */
  readonly source: string;
  /**
   * The conversation as text. UnsupportedError when the template refuses it (with the template's message),
   * FormatError when the template passes the bounds of `template-jinja.ts`.
   */
  render(messages: readonly ChatMessage[], options?: RenderOptions): string;
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
  readonly #default: JinjaTemplate;
  readonly #tools: JinjaTemplate;
  readonly #specials: Readonly<Record<string, string>>;

  constructor(
    sources: ReadonlyMap<string, string>,
    specials: Readonly<Record<string, string>>,
    place: string,
  ) {
    const source = sources.get("default") ?? [...sources.values()][0];
    const tools = sources.get(TOOLS);
    this.source = source;
    this.#default = new JinjaTemplate(source, place);
    this.#tools = tools === undefined ? this.#default : new JinjaTemplate(tools, `${place} (${TOOLS})`);
    this.#specials = specials;
  }

  render(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    const { addGenerationPrompt = false, tools = null, now = new Date(), ...variables } = options;
    const template = tools !== null && tools.length > 0 ? this.#tools : this.#default;
    return template.run(
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
}
