/**
 * A conversation: what was asked and answered, the documents in it, and its file. Also the rule where documents go and
 * the form of a saved conversation. The one idea: turns are whole (a question
 * with its answer), so that roles always alternate, which templates insist on; an unanswered question is never in it.
 */
import { type ChatMessage, FormatError } from "../index.ts";
import { printable } from "./terminal.ts";

export interface Turn {
  /** Including the documents before it. */
  readonly question: string;
  readonly answer: string;
  /** "": none. The template decides whether the model sees it again. */
  readonly thinking: string;
}

/** The contents of a file other than its turns. */
export interface Saved {
  readonly model: string;
  readonly system: string | null;
  readonly turns: readonly Turn[];
}

const KIND = "nibble conversation";
const VERSION = 1;

export class Conversation {
  /** The system message; null: none. Of a conversation from a file, with its documents. */
  #first: string | null;
  /** Documents that follow the system message, as parts of it. */
  #documents: readonly string[] = [];
  #turns: Turn[] = [];
  #waiting: string[] = [];

  constructor(system: string | null) {
    this.#first = system;
  }

  get turns(): readonly Turn[] {
    return this.#turns;
  }

  /** The system message, documents included; null: none. */
  get system(): string | null {
    const parts = [...(this.#first === null ? [] : [this.#first]), ...this.#documents];
    return parts.length > 0 ? parts.join("\n\n") : null;
  }

  /** Replaces or removes the system message; documents stay. Returns a function that undoes it. */
  tellFirst(text: string | null): () => void {
    const before = this.#first;
    this.#first = text;
    return () => {
      this.#first = before;
    };
  }

  /** Takes the last turn out; null: there is none. `putBack` undoes it. */
  takeBack(): Turn | null {
    return this.#turns.pop() ?? null;
  }

  putBack(turn: Turn): void {
    this.#turns.push(turn);
  }

  /** Documents that go before the next question. */
  get waiting(): readonly string[] {
    return this.#waiting;
  }

  /**
   * Adds a document: to the system message as long as nothing was asked, later before the next question, so
   * that nothing has to be read again. Returns a function that undoes it.
   */
  attach(document: string): () => void {
    const before = { documents: this.#documents, waiting: this.#waiting };
    if (this.#turns.length === 0) this.#documents = [...this.#documents, document];
    else this.#waiting = [...this.#waiting, document];
    return () => {
      this.#documents = before.documents;
      this.#waiting = before.waiting;
    };
  }

  /** The messages for the template that end with `question`. */
  messages(question: string): ChatMessage[] {
    const messages: ChatMessage[] = this.#turns.flatMap(toMessages);
    messages.push({ role: "user", content: this.#asked(question) });
    const { system } = this;
    return system === null ? messages : [{ role: "system", content: system }, ...messages];
  }

  add(question: string, answer: string, thinking: string): void {
    this.#turns.push({ question: this.#asked(question), answer, thinking });
    this.#waiting = [];
  }

  /** Back to the system message that it began with. */
  clear(): void {
    this.#documents = [];
    this.#turns = [];
    this.#waiting = [];
  }

  replace({ system, turns }: Saved): void {
    this.#first = system;
    this.#documents = [];
    this.#turns = [...turns];
    this.#waiting = [];
  }

  /** The file's text. `model`: as the user names it. */
  toJson(model: string, now = new Date()): string {
    const system = this.system === null ? [] : [{ role: "system", content: this.system }];
    const messages = [...system, ...this.#turns.flatMap(toMessages)];
    return `${JSON.stringify({ kind: KIND, version: VERSION, model, saved: now.toISOString(), messages }, null, 2)}\n`;
  }

  #asked(question: string): string {
    return [...this.#waiting, question].join("\n\n");
  }
}

/** Reads a file's text. FormatError at `place` unless it is a whole conversation of this version. */
export function parseConversation(text: string, place: string): Saved {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(place, "no JSON", `what /save writes`, { cause });
  }
  const { kind, version, model, messages } = record(value, place);
  if (kind !== KIND) throw new FormatError(`${place}: kind`, shown(kind), `"${KIND}", which /save writes`);
  if (version !== VERSION)
    throw new FormatError(
      `${place}: version`,
      shown(version),
      `${VERSION}, which this nibble reads and writes`,
    );
  if (typeof model !== "string") throw new FormatError(`${place}: model`, shown(model), "a text");
  if (!Array.isArray(messages)) throw new FormatError(`${place}: messages`, shown(messages), "a list");

  const read = messages.map((message, at) => readMessage(message, `${place}: messages[${at}]`));
  const system = read[0]?.role === "system" ? read[0].content : null;
  const rest = system === null ? read : read.slice(1);
  const turns: Turn[] = [];
  for (let at = 0; at < rest.length; at += 2) {
    const where = (i: number) => `${place}: messages[${i + read.length - rest.length}]`;
    if (rest[at].role !== "user") throw new FormatError(where(at), `role ${rest[at].role}`, "user");
    if (rest[at + 1]?.role !== "assistant")
      throw new FormatError(where(at + 1), rest[at + 1]?.role ?? "missing", "the assistant's answer");
    const { content: answer, thinking } = rest[at + 1];
    turns.push({ question: rest[at].content, answer, thinking });
  }
  return { model, system, turns };
}

function toMessages({ question, answer, thinking }: Turn): ChatMessage[] {
  return [
    { role: "user", content: question },
    // The name under which templates look for it, Qwen 3's and Gemma 4's among them.
    { role: "assistant", content: answer, ...(thinking === "" ? {} : { reasoning_content: thinking }) },
  ];
}

const ROLES = ["system", "user", "assistant"];

function readMessage(value: unknown, place: string) {
  const { role, content, reasoning_content: thinking = "" } = record(value, place);
  if (typeof role !== "string" || !ROLES.includes(role))
    throw new FormatError(`${place}.role`, shown(role), ROLES.join(", "));
  if (typeof content !== "string") throw new FormatError(`${place}.content`, shown(content), "a text");
  if (typeof thinking !== "string")
    throw new FormatError(`${place}.reasoning_content`, shown(thinking), "a text");
  return { role, content, thinking };
}

function record(value: unknown, place: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new FormatError(place, shown(value), "an object");
}

/** A value of a file in an error message: short, without control characters. */
function shown(value: unknown): string {
  if (value === undefined) return "missing";
  // A deeply nested value could overflow the stack when it is written.
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "a list" : "an object";
  const text = printable(JSON.stringify(value));
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
