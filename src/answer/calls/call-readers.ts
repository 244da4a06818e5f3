/**
 * Takes calls out of an answer while it streams. Owns what is held back: text that may become a call, and blanks in
 * front of one. What turns out to be no call is given out as it was written.
 */
import { partialMark } from "../thinking.ts";
import type { WrittenCall } from "./written-call.ts";

export type ReadPart =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "call"; readonly call: WrittenCall };

export interface CallReader {
  push(text: string): ReadPart[];
  end(): ReadPart[];
}

/** null: the text is no call. */
type ReadCall = (text: string) => WrittenCall | null;

/** Calls between two marks, anywhere in an answer. */
export class MarkedCalls implements CallReader {
  readonly #open: string;
  readonly #close: string;
  readonly #read: ReadCall;
  #held = "";
  #inside = false;
  /** The blanks in front of the call that is being read: content, should it be none. */
  #front = "";
  /** Something was called: blanks around it are not content. */
  #hasCalled = false;

  constructor(open: string, close: string, read: ReadCall) {
    this.#open = open;
    this.#close = close;
    this.#read = read;
  }

  push(text: string): ReadPart[] {
    this.#held += text;
    const parts: ReadPart[] = [];
    while (this.#inside ? this.#call(parts) : this.#say(parts));
    return parts;
  }

  end(): ReadPart[] {
    const rest = this.#held;
    this.#held = "";
    if (this.#inside) {
      // Cut off, or the model has left its end token to close the call.
      const call = this.#read(rest);
      return [call ? { kind: "call", call } : this.#said(rest)];
    }
    return rest === "" || (this.#hasCalled && rest.trim() === "") ? [] : [{ kind: "text", text: rest }];
  }

  /** True: a call has ended and there may be more. */
  #call(parts: ReadPart[]): boolean {
    const at = this.#held.indexOf(this.#close);
    if (at < 0) return false;
    const text = this.#held.slice(0, at);
    const call = this.#read(text);
    this.#held = this.#held.slice(at + this.#close.length);
    this.#inside = false;
    this.#hasCalled ||= call !== null;
    parts.push(call ? { kind: "call", call } : this.#said(text + this.#close));
    return true;
  }

  #said(text: string): ReadPart {
    return { kind: "text", text: this.#front + this.#open + text };
  }

  /** True: a call has begun. */
  #say(parts: ReadPart[]): boolean {
    const at = this.#held.indexOf(this.#open);
    const end = at < 0 ? partialMark(this.#held, this.#open) : at;
    const text = this.#held.slice(0, end).trimEnd();
    if (text !== "") parts.push({ kind: "text", text });
    if (at < 0) {
      this.#held = this.#held.slice(text.length);
      return false;
    }
    this.#front = this.#held.slice(text.length, at);
    this.#held = this.#held.slice(at + this.#open.length);
    this.#inside = true;
    return true;
  }
}

/** An answer that is nothing but calls, one after the other, perhaps after a mark. */
export class BareCalls implements CallReader {
  readonly #mark: string;
  readonly #read: ReadCall;
  #held = "";
  /** It has begun as a call does not. */
  #isContent = false;

  constructor(mark: string, read: ReadCall) {
    this.#mark = mark;
    this.#read = read;
  }

  push(text: string): ReadPart[] {
    this.#held += text;
    const begun = this.#held.trimStart();
    const mayBeCall = begun.startsWith("{") || begun.startsWith(this.#mark) || this.#mark.startsWith(begun);
    this.#isContent ||= !mayBeCall;
    return this.#isContent ? this.#give() : [];
  }

  end(): ReadPart[] {
    if (this.#isContent || this.#held.trim() === "") return this.#give();
    const all = this.#held.trim();
    const text = all.startsWith(this.#mark) ? all.slice(this.#mark.length).trim() : all;
    const calls = jsonObjects(text)?.map((object) => this.#read(object));
    if (!calls || calls.includes(null)) return this.#give();
    return calls.map((call) => ({ kind: "call", call: call! }));
  }

  #give(): ReadPart[] {
    const text = this.#held;
    this.#held = "";
    return text === "" ? [] : [{ kind: "text", text }];
  }
}

/** The objects of a text that is nothing but objects with ";", "," or blanks between; null: it is something else. */
function jsonObjects(text: string): string[] | null {
  const objects: string[] = [];
  let from = 0;
  while (from < text.length) {
    const end = endOfObject(text, from);
    if (end < 0) return null;
    objects.push(text.slice(from, end));
    from = end + (/^[\s;,]*/.exec(text.slice(end))?.[0].length ?? 0);
  }
  return objects.length > 0 ? objects : null;
}

/** Behind the brace that closes the one at `from`; -1: there is none. */
function endOfObject(text: string, from: number): number {
  if (text[from] !== "{") return -1;
  let depth = 0;
  let isText = false;
  for (let at = from; at < text.length; at++) {
    const c = text[at];
    if (isText) {
      if (c === "\\") at++;
      else if (c === '"') isText = false;
    } else if (c === '"') isText = true;
    else if (c === "{") depth++;
    else if (c === "}" && --depth === 0) return at + 1;
  }
  return -1;
}
