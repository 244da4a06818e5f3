/**
 * Extracts calls from an answer while it streams. Text that may become a call is held back, and so are blanks before
 * one. What turns out not to be a call is passed on as it was written.
 */
import { partialMark } from "../reasoning.ts";
import type { WrittenCall } from "./written-call.ts";

export type ReadPart =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "call"; readonly call: WrittenCall };

export interface CallReader {
  push(text: string): ReadPart[];
  end(): ReadPart[];
}

/** null: the text is not a call; OPEN: it ends inside a string, so a mark after it may be part of the string. */
type ReadCall = (text: string) => WrittenCall | typeof OPEN | null;
export const OPEN = "open";

/** Marks that may be part of a string in a call: each one costs a scan of the whole call. */
const MOST_TRIES = 64;

/** Calls between two marks, anywhere in an answer. */
export class MarkedCalls implements CallReader {
  readonly #open: string;
  readonly #close: string;
  readonly #read: ReadCall;
  #held = "";
  #inside = false;
  /** Marks before this place are part of a string in the call. */
  #tried = 0;
  #tries = 0;
  /** The blanks before the call that is being read: content if it turns out not to be a call. */
  #front = "";
  /** There was a call: blanks around it are not content. */
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
      // Cut off, or the model let its end token close the call.
      const call = this.#read(rest);
      return [call && call !== OPEN ? { kind: "call", call } : this.#said(rest)];
    }
    return rest === "" || (this.#hasCalled && rest.trim() === "") ? [] : [{ kind: "text", text: rest }];
  }

  /** True: a call has ended and there may be more. */
  #call(parts: ReadPart[]): boolean {
    let at = this.#held.indexOf(this.#close, this.#tried);
    if (at < 0) return false;
    const call = this.#read(this.#held.slice(0, at));
    if (call === OPEN && ++this.#tries < MOST_TRIES) {
      this.#tried = at + this.#close.length;
      return true;
    }
    // Text that is not a call ends at the first mark.
    const isCall = call !== null && call !== OPEN;
    if (!isCall) at = this.#held.indexOf(this.#close);
    this.#tried = this.#tries = 0;
    const text = this.#held.slice(0, at);
    this.#held = this.#held.slice(at + this.#close.length);
    this.#inside = false;
    this.#hasCalled ||= isCall;
    parts.push(isCall ? { kind: "call", call } : this.#said(text + this.#close));
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

/** An answer that consists of calls only, one after the other, perhaps after a mark. */
export class BareCalls implements CallReader {
  readonly #mark: string;
  readonly #read: ReadCall;
  #held = "";
  /** Its beginning is not that of a call. */
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
    const calls = jsonObjects(text)?.map((object) => this.#read(object)) ?? [null];
    const found = calls.filter((call) => call !== null && call !== OPEN);
    if (found.length < calls.length) return this.#give();
    return found.map((call) => ({ kind: "call", call }));
  }

  #give(): ReadPart[] {
    const text = this.#held;
    this.#held = "";
    return text === "" ? [] : [{ kind: "text", text }];
  }
}

/** The objects of a text that consists of objects with ";", "," or blanks between them; null: it is something else. */
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

/** Whether JSON ends inside a string. */
export function isOpenJson(text: string): boolean {
  const begun = text.trimStart();
  return begun.startsWith("{") && endOfObject(begun, 0) === IN_TEXT;
}

const IN_TEXT = -2;

/** The place after the brace that closes the one at `from`; -1: there is none; IN_TEXT: a string is open at the end. */
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
  return isText ? IN_TEXT : -1;
}
