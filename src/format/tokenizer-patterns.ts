/**
 * Converts the patterns of a tokenizer.json, written for Oniguruma, into JavaScript's. JavaScript's matcher backtracks,
 * and a short pattern such as (a+)+$ from a hostile file would never end. So a pattern is accepted only with a proof
 * that it takes time in proportion to the text: an alternative is harmless if nothing that can fail follows an
 * unlimited repetition, because it then never backtracks. The few published alternatives that do backtrack are known by
 * form, each with the later alternative that matches the same run of characters in any case.
 */
import { FormatError, UnsupportedError } from "./errors.ts";
import { asObject, describe } from "./json.ts";

/** A part of an alternative: a character, a class, a group or a lookahead, with its repetition. */
interface Item {
  readonly text: string;
  /** The text in JavaScript's syntax. */
  readonly ours: string;
  /** May match nothing, so that nothing before it has to backtrack for it. */
  readonly skippable: boolean;
  readonly unlimited: boolean;
  /** The number of ways to match, if it is limited. */
  readonly ways: number;
}

interface Alternative {
  readonly text: string;
  readonly items: readonly Item[];
}

/** Limit for the ways to match the limited parts of one alternative. (?i:'s|'t|'re|'ve|'m|'ll|'d)? has eight. */
const MOST_WAYS = 64;
/** Characters; published patterns have up to 700. */
const LONGEST = 4096;

const WAY_OUT = "A GGUF file of the model has its tokenizer in another form";

/** Reads { String: ... } or { Regex: ... } of the file. Throws FormatError for anything else. */
export function filePattern(value: unknown, where: string): RegExp {
  const { Regex, String: plain } = asObject(value, `${where}.pattern`);
  const text = Regex ?? plain;
  if (typeof text !== "string" || text === "")
    throw new FormatError(`${where}.pattern`, describe(value), "{ String: text } or { Regex: text }");
  return Regex === undefined
    ? new RegExp(text.replace(/[$()*+.?[\\\]^{|}/]/g, "\\$&"), "gu")
    : linearPattern(text, where);
}

/** Throws UnsupportedError if the pattern might take more than linear time, or match an empty text. */
export function linearPattern(pattern: string, where: string): RegExp {
  const shown = pattern.length > 60 ? `${pattern.slice(0, 57)}...` : pattern;
  const refuse = (why: string) => new UnsupportedError(`the pattern ${shown} of ${where} (${why})`, WAY_OUT);
  if (pattern.length > LONGEST) throw refuse(`${pattern.length} characters; allowed: at most ${LONGEST}`);
  const reader = new Reader(pattern);
  const alternatives = reader.alternatives();
  if (alternatives === null) throw refuse(`unknown syntax at character ${reader.at}`);
  for (const [at, { text, items }] of alternatives.entries()) {
    if (items.every(({ skippable }) => skippable)) throw refuse(`${text} matches an empty text`);
    if (isLinear(items)) continue;
    const later = new Set(alternatives.slice(at + 1).map((alternative) => alternative.text));
    if (![...coversOf({ text, items })].some((cover) => later.has(cover)))
      throw refuse(`${text} may backtrack without limit`);
  }
  try {
    return new RegExp(
      alternatives.map(({ items }) => items.map(({ ours }) => ours).join("")).join("|"),
      "gu",
    );
  } catch (cause) {
    throw refuse((cause as Error).message);
  }
}

/** Nothing that can fail follows an unlimited repetition, and the limited ones have few ways to match. */
function isLinear(items: readonly Item[]): boolean {
  let ways = 1;
  for (const [at, item] of items.entries()) {
    const mayGoBack = items.slice(at + 1).some(({ skippable }) => !skippable);
    if (mayGoBack && item.unlimited) return false;
    if (mayGoBack) ways *= item.ways;
  }
  return ways <= MOST_WAYS;
}

/** Later alternatives that match at least the characters over which this one backtracked in vain. */
function* coversOf({ text, items }: Alternative): Iterable<string> {
  // The whitespace of GPT-2 and Llama 3.
  if (["\\s*[\\r\\n]+", "\\s*[\\r\\n]", "\\s+(?!\\S)"].includes(text)) yield "\\s+";
  // The words of GPT-4o and Tekken: A*B+ backtracks over A, which A+B* then matches.
  const [at, ...more] = items.flatMap(({ unlimited }, at) => (unlimited ? [at] : []));
  const [upper, lower] = [items[at], items[at + 1]];
  if (more.length !== 1 || more[0] !== at + 1 || !/\*$/.test(upper.text) || !/\+$/.test(lower.text)) return;
  const others = [...items.slice(0, at), ...items.slice(at + 2)];
  if (!isLinear(others) || items.slice(at + 2).some(({ skippable }) => !skippable)) return;
  const swapped = `${upper.text.slice(0, -1)}+${lower.text.slice(0, -1)}*`;
  yield [...items.slice(0, at).map(textOf), swapped, ...items.slice(at + 2).map(textOf)].join("");
}

const textOf = ({ text }: Item) => text;

/** One character: a class without nested classes, an escape for a set of characters, or a literal. */
const CHARACTER =
  /\[(?:\\.|[^\\[\]])+\]|\\(?:[pP]\{[^{}]*\}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[sSdDwWrntfvhH]|[^A-Za-z0-9])|[^\\[\](){}|?*+^$]/suy;
const REPEATED = /[?*+](?![?+])|\{(\d{1,3})(?:(,)(\d{1,3})?)?\}(?![?+])/y;
const GROUP = /\((?:\?i?:|(?!\?))/y;
const LOOK_AHEAD = /\(\?[=!]/y;

class Reader {
  at = 0;
  readonly #pattern: string;
  /** Inside (?i:...). */
  #anyCase = false;

  constructor(pattern: string) {
    this.#pattern = pattern;
  }

  /** null: unknown syntax at `at`. */
  alternatives(): Alternative[] | null {
    const found = this.#alternatives();
    return this.at === this.#pattern.length ? found : null;
  }

  #alternatives(): Alternative[] | null {
    const found: Alternative[] = [];
    do {
      const start = this.at;
      const items: Item[] = [];
      while (this.at < this.#pattern.length && !/[|)]/.test(this.#pattern[this.at])) {
        const item = this.#item();
        if (item === null) return null;
        items.push(item);
      }
      found.push({ text: this.#pattern.slice(start, this.at), items });
    } while (this.#take(/\|/y));
    return found;
  }

  #item(): Item | null {
    const start = this.at;
    const text = () => this.#pattern.slice(start, this.at);
    const ahead = this.#take(LOOK_AHEAD)?.[0];
    if (ahead) {
      const character = this.#character();
      if (character === null || !this.#take(/\)/y)) return null;
      const ours = `${ahead}${character})`;
      return { text: text(), ours, skippable: false, unlimited: false, ways: 1 };
    }
    const opened = this.#take(GROUP)?.[0];
    if (opened) {
      const anyCase = this.#anyCase;
      this.#anyCase ||= opened.includes("i");
      const inner = this.#alternatives();
      this.#anyCase = anyCase;
      if (inner === null || !this.#take(/\)/y) || !inner.every(({ items }) => isLinear(items))) return null;
      const optional = this.#take(/\?(?![?+])/y) !== null;
      if (/[?*+{]/.test(this.#pattern[this.at] ?? "")) return null;
      const items = inner.flatMap((alternative) => alternative.items);
      const waysOf = ({ items }: Alternative) => items.reduce((product, item) => product * item.ways, 1);
      const ours = inner.map((one) => one.items.map((item) => item.ours).join("")).join("|");
      return {
        text: text(),
        ours: `(?:${ours})${optional ? "?" : ""}`,
        skippable: optional || inner.some((one) => one.items.every(({ skippable }) => skippable)),
        unlimited: items.some(({ unlimited }) => unlimited),
        ways: inner.reduce((sum, one) => sum + waysOf(one), optional ? 1 : 0),
      };
    }
    const character = this.#character();
    if (character === null) return null;
    const repeated = this.#take(REPEATED);
    const [least, most] = repeated === null ? [1, 1] : limits(repeated);
    return {
      text: text(),
      ours: character + (repeated?.[0] ?? ""),
      skippable: least === 0,
      unlimited: most === Number.POSITIVE_INFINITY,
      ways: most === Number.POSITIVE_INFINITY ? 1 : most - least + 1,
    };
  }

  /** One character, class or escape in JavaScript's syntax; null: something else, or not expressible. */
  #character(): string | null {
    const found = this.#take(CHARACTER)?.[0];
    if (found === undefined || found.includes("&&")) return null;
    if (found.startsWith("[")) {
      if (this.#anyCase || /\\[WH]/.test(found)) return null;
      return found.replace(/\\(?:[pP]\{[^{}]*\}|[\s\S])/gu, escaped);
    }
    if (found === ".") return "[^\\n]";
    if (found.startsWith("\\")) {
      if (found === "\\-") return "-";
      const ours = escaped(found);
      // Alone it counts ² and ½ as letters, in a class it does not.
      const more = /[wW]/.test(found) ? "\\xb2\\xb3\\xb9\\xbc-\\xbe" : "";
      return /^\\[wWhH]/.test(found) ? `[${/[WH]/.test(found) ? "^" : ""}${ours}${more}]` : ours;
    }
    if (!this.#anyCase || found.toLowerCase() === found.toUpperCase()) return found;
    if (!/[a-z]/i.test(found)) return null;
    // Oniguruma treats these two like the letters that they resemble.
    const more = { s: "\u017f", k: "\u212a" }[found.toLowerCase()] ?? "";
    return `[${found.toLowerCase()}${found.toUpperCase()}${more}]`;
  }

  #take(form: RegExp): RegExpExecArray | null {
    form.lastIndex = this.at;
    const found = form.exec(this.#pattern);
    if (found) this.at = form.lastIndex;
    return found;
  }
}

function limits([sign, least, comma, most]: RegExpExecArray): [number, number] {
  if (sign === "?") return [0, 1];
  if (sign === "*" || sign === "+") return [sign === "*" ? 0 : 1, Number.POSITIVE_INFINITY];
  if (comma === undefined) return [Number(least), Number(least)];
  return [Number(least), most === undefined ? Number.POSITIVE_INFINITY : Number(most)];
}

/** Escapes inside a class or alone; Oniguruma's are Unicode's, unlike JavaScript's. */
const ESCAPES: Readonly<Record<string, string>> = {
  s: "\\p{White_Space}",
  S: "\\P{White_Space}",
  d: "\\p{Nd}",
  D: "\\P{Nd}",
  w: "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}",
  W: "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}",
  h: "0-9A-Fa-f",
  H: "0-9A-Fa-f",
};

function escaped(source: string): string {
  const letter = source[1];
  if (Object.hasOwn(ESCAPES, letter)) return ESCAPES[letter];
  if (/[pP]/.test(letter))
    return isProperty(source) ? source : `${source.slice(0, 3)}Script=${source.slice(3)}`;
  // JavaScript rejects escapes that are not needed.
  return /[A-Za-z0-9$()*+.?[\\\]^{|}/-]/.test(letter) ? source : letter;
}

function isProperty(source: string): boolean {
  try {
    return new RegExp(source, "u") !== null;
  } catch {
    return false;
  }
}
