/**
 * Reads a call as Gemma writes it: call:name{key:value,...}, where strings stand between two marks of their own and keys
 * have no quotes.
 */
import { OPEN } from "./call-readers.ts";
import type { WrittenCall } from "./written-call.ts";

const DEEPEST = 1000;

/** quote: the mark around strings. null: the text is not such a call. */
export function readGemmaCall(text: string, quote: string): WrittenCall | typeof OPEN | null {
  const [head, name] = /^\s*call:([^{\s]+)\s*(?=\{)/.exec(text) ?? [];
  if (head === undefined) return null;
  const reader = new Reader(text.slice(head.length).trimEnd(), quote);
  const found = reader.value(0);
  if (reader.isOpen) return OPEN;
  return found !== undefined && reader.isAtEnd ? { name, arguments: found as Record<string, unknown> } : null;
}

class Reader {
  /** It ends inside a string. */
  isOpen = false;
  #at = 0;

  constructor(
    readonly text: string,
    readonly quote: string,
  ) {}

  get isAtEnd(): boolean {
    return this.#at === this.text.length;
  }

  /** undefined: there is none. */
  value(depth: number): unknown {
    this.#blanks();
    if (depth > DEEPEST) return undefined;
    if (this.#takes(this.quote)) return this.#quoted();
    if (this.#takes("{")) return this.#object(depth);
    if (this.#takes("[")) return this.#list(depth);
    return bare(this.#until(/[,}\]]/));
  }

  #object(depth: number): Record<string, unknown> | undefined {
    const entries: [string, unknown][] = [];
    this.#blanks();
    if (this.#takes("}")) return {};
    do {
      this.#blanks();
      const key = this.#takes(this.quote) ? this.#quoted() : this.#until(/:/).trim() || undefined;
      this.#blanks();
      if (key === undefined || !this.#takes(":")) return undefined;
      const value = this.value(depth + 1);
      if (value === undefined) return undefined;
      entries.push([key, value]);
      this.#blanks();
    } while (this.#takes(","));
    return this.#takes("}") ? Object.fromEntries(entries) : undefined;
  }

  #list(depth: number): unknown[] | undefined {
    const items: unknown[] = [];
    this.#blanks();
    if (this.#takes("]")) return items;
    do {
      const item = this.value(depth + 1);
      if (item === undefined) return undefined;
      items.push(item);
      this.#blanks();
    } while (this.#takes(","));
    return this.#takes("]") ? items : undefined;
  }

  #quoted(): string | undefined {
    const end = this.text.indexOf(this.quote, this.#at);
    this.isOpen = end < 0;
    if (this.isOpen) return undefined;
    const found = this.text.slice(this.#at, end);
    this.#at = end + this.quote.length;
    return found;
  }

  #takes(mark: string): boolean {
    if (!this.text.startsWith(mark, this.#at)) return false;
    this.#at += mark.length;
    return true;
  }

  #until(stop: RegExp): string {
    const rest = this.text.slice(this.#at);
    const end = rest.search(stop);
    const found = end < 0 ? rest : rest.slice(0, end);
    this.#at += found.length;
    return found;
  }

  #blanks(): void {
    this.#at += /^\s*/.exec(this.text.slice(this.#at))?.[0].length ?? 0;
  }
}

/** A number, true, false or null; other words are strings, whose marks small models forget. */
function bare(text: string): unknown {
  const word = text.trim();
  if (word === "") return undefined;
  if (word === "None") return null;
  try {
    return JSON.parse(word);
  } catch {
    return word;
  }
}
