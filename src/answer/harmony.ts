/**
 * gpt-oss answers in Harmony: messages with a channel each. analysis is reasoning; final, and commentary without a
 * recipient, are the answer; a message to functions.NAME is a call. Takes such an answer apart while it streams. The one
 * idea: a message's header is held back until it is whole, its body streams. (OpenAI's "Harmony response format", 2025)
 */
import { type PartStream, partialMark, type Section, type StreamedPart } from "./reasoning.ts";

/** Ends a header; in a call it stands between name and arguments. */
export const MESSAGE = "<|message|>";
export const CHANNEL = "<|channel|>";
export const START = "<|start|>";
export const END = "<|end|>";
export const CONSTRAIN = "<|constrain|>";
/** What ends a body. The next message may begin without one. */
const ENDS = [END, "<|call|>", "<|return|>", START, CHANNEL];

/** Control tokens that are shown in an answer that is to be taken apart. */
export const HARMONY_MARKS: readonly string[] = [MESSAGE, CONSTRAIN, ...ENDS];

/** The prompt ends here; a model with a constrained format follows it after the close. */
export const HARMONY: Section = { open: `${START}assistant`, close: `${CHANNEL}final${MESSAGE}` };

/** A call is passed on as answer text of this form, whatever the order of its header; CALL_END follows its arguments. */
export const CALL_BEGIN = `${CHANNEL}commentary to=functions.`;
export const CALL_END = "<|call|>";

/** Beginnings of a header. Anything else is not Harmony and is passed on as an answer. */
const HEADER = [START, CHANNEL, MESSAGE, "to="];

export class HarmonyStream implements PartStream {
  #held = "";
  /** The kind of the body that is being read; null: a header is being read. */
  #kind: StreamedPart["kind"] | "call" | null = null;

  push(more: string): StreamedPart[] {
    this.#held += more;
    const parts: StreamedPart[] = [];
    while (this.#kind === null ? this.#header(parts) : this.#body(parts));
    return parts;
  }

  end(): StreamedPart[] {
    const parts: StreamedPart[] = [];
    const rest = this.#held;
    this.#held = "";
    if (this.#kind !== null) {
      give(parts, this.#kind, rest);
      // Its end token ended the generation and is not in the text.
      if (this.#kind === "call") give(parts, "text", CALL_END);
    } else if (!HEADER.some((mark) => rest.trimStart().startsWith(mark))) give(parts, "text", rest);
    return parts;
  }

  /** True: a body has begun. */
  #header(parts: StreamedPart[]): boolean {
    const text = this.#held.trimStart();
    const isHeader = HEADER.some((mark) => text.startsWith(mark) || mark.startsWith(text));
    if (!isHeader) {
      this.#kind = "text";
      return true;
    }
    const at = text.indexOf(MESSAGE);
    if (at < 0) return false;
    const header = text.slice(0, at);
    this.#held = text.slice(at + MESSAGE.length);
    const name = /\bto=functions\.([\w.-]+)/.exec(header)?.[1];
    const channel = /<\|channel\|>\s*(\w+)/.exec(header)?.[1];
    if (name !== undefined) {
      this.#kind = "call";
      give(parts, "text", `${CALL_BEGIN}${name}${MESSAGE}`);
    } else this.#kind = channel === "analysis" ? "reasoning" : "text";
    return true;
  }

  /** True: the body has ended. */
  #body(parts: StreamedPart[]): boolean {
    const kind = this.#kind!;
    const found = ENDS.map((mark) => ({ mark, at: this.#held.indexOf(mark) }))
      .filter(({ at }) => at >= 0)
      .sort((a, b) => a.at - b.at)[0];
    const end = found ? found.at : Math.min(...ENDS.map((mark) => partialMark(this.#held, mark)));
    give(parts, kind, this.#held.slice(0, end));
    this.#held = this.#held.slice(end);
    if (!found) return false;
    const opensNext = found.mark === START || found.mark === CHANNEL;
    if (!opensNext) this.#held = this.#held.slice(found.mark.length);
    if (kind === "call") give(parts, "text", CALL_END);
    this.#kind = null;
    return true;
  }
}

function give(parts: StreamedPart[], kind: StreamedPart["kind"] | "call", text: string): void {
  if (text === "") return;
  const shown = kind === "call" ? "text" : kind;
  const last = parts.at(-1);
  if (last?.kind === shown) parts[parts.length - 1] = { kind: shown, text: last.text + text };
  else parts.push({ kind: shown, text });
}
