/**
 * Which patterns of a tokenizer.json may run: a file's pattern goes to the engine's backtracking matcher, where a short
 * one such as (a+)+$ never ends. Owns the proof that a pattern takes time in proportion to the text; refuses to know
 * what it is for. The one idea: an alternative is harmless when nothing that can fail comes after a repetition without
 * a limit, because it then never goes back. The few published alternatives that do go back are known by form, each with
 * the later alternative that takes the same run of characters in any case.
 */
import { UnsupportedError } from "./errors.ts";

/** A part of an alternative: a character, a class, a group or a look ahead, with its repetition. */
interface Item {
  readonly text: string;
  /** May match nothing, so that what comes before it never has to go back for it. */
  readonly skippable: boolean;
  readonly unlimited: boolean;
  /** In how many ways it may match when it is not unlimited. */
  readonly ways: number;
}

interface Alternative {
  readonly text: string;
  readonly items: readonly Item[];
}

/** Ways to match the limited parts of one alternative. (?i:'s|'t|'re|'ve|'m|'ll|'d)? has eight. */
const MOST_WAYS = 64;
/** Characters; published patterns have up to 700. */
const LONGEST = 4096;

const WAY_OUT = "A GGUF file of the model carries its tokenizer in another form";

/** Throws UnsupportedError when the pattern might take more than time in proportion to the text, or match nothing. */
export function checkPattern(pattern: string, where: string): void {
  const shown = pattern.length > 60 ? `${pattern.slice(0, 57)}...` : pattern;
  const refuse = (why: string) => new UnsupportedError(`the pattern ${shown} of ${where} (${why})`, WAY_OUT);
  if (pattern.length > LONGEST) throw refuse(`${pattern.length} characters; allowed: at most ${LONGEST}`);
  const reader = new Reader(pattern);
  const alternatives = reader.alternatives();
  if (alternatives === null) throw refuse(`what stands at character ${reader.at} is not known`);
  for (const [at, { text, items }] of alternatives.entries()) {
    if (items.every(({ skippable }) => skippable)) throw refuse(`${text} matches an empty text`);
    if (isLinear(items)) continue;
    const later = new Set(alternatives.slice(at + 1).map((alternative) => alternative.text));
    if (![...coversOf({ text, items })].some((cover) => later.has(cover)))
      throw refuse(`${text} may go back without end`);
  }
}

/** Nothing that can fail comes after a repetition without a limit, and the limited ones have few ways. */
function isLinear(items: readonly Item[]): boolean {
  let ways = 1;
  for (const [at, item] of items.entries()) {
    const mayGoBack = items.slice(at + 1).some(({ skippable }) => !skippable);
    if (mayGoBack && item.unlimited) return false;
    if (mayGoBack) ways *= item.ways;
  }
  return ways <= MOST_WAYS;
}

/** Alternatives that, if they come later, take at least the characters over which this one went back in vain. */
function* coversOf({ text, items }: Alternative): Iterable<string> {
  // GPT-2's and Llama 3's blanks.
  if (["\\s*[\\r\\n]+", "\\s*[\\r\\n]", "\\s+(?!\\S)"].includes(text)) yield "\\s+";
  // GPT-4o's and Tekken's words: A*B+ goes back over A, which A+B* then takes.
  const [at, ...more] = items.flatMap(({ unlimited }, at) => (unlimited ? [at] : []));
  const [upper, lower] = [items[at], items[at + 1]];
  if (more.length !== 1 || more[0] !== at + 1 || !/\*$/.test(upper.text) || !/\+$/.test(lower.text)) return;
  const others = [...items.slice(0, at), ...items.slice(at + 2)];
  if (!isLinear(others) || items.slice(at + 2).some(({ skippable }) => !skippable)) return;
  const swapped = `${upper.text.slice(0, -1)}+${lower.text.slice(0, -1)}*`;
  yield [...items.slice(0, at).map(textOf), swapped, ...items.slice(at + 2).map(textOf)].join("");
}

const textOf = ({ text }: Item) => text;

/** One character: a class without classes in it, an escape that stands for characters, or itself. */
const CHARACTER =
  /\[(?:\\.|[^\\[\]])+\]|\\(?:[pP]\{[^{}]*\}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[sSdDwWrntfvhH]|[^A-Za-z0-9])|[^\\[\](){}|?*+^$]/suy;
const REPEATED = /[?*+](?![?+])|\{(\d{1,3})(?:(,)(\d{1,3})?)?\}(?![?+])/y;
const GROUP = /\((?:\?i?:|(?!\?))/y;
const LOOK_AHEAD = /\(\?[=!]/y;

class Reader {
  at = 0;
  readonly #pattern: string;

  constructor(pattern: string) {
    this.#pattern = pattern;
  }

  /** null: something that is not known, at `at`. */
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
    if (this.#take(LOOK_AHEAD)) {
      if (!this.#take(CHARACTER) || !this.#take(/\)/y)) return null;
      return { text: text(), skippable: false, unlimited: false, ways: 1 };
    }
    if (this.#take(GROUP)) {
      const inner = this.#alternatives();
      if (inner === null || !this.#take(/\)/y) || !inner.every(({ items }) => isLinear(items))) return null;
      const optional = this.#take(/\?(?![?+])/y) !== null;
      if (/[?*+{]/.test(this.#pattern[this.at] ?? "")) return null;
      const items = inner.flatMap((alternative) => alternative.items);
      const ways = inner.reduce(
        (sum, one) => sum + one.items.reduce((product, item) => product * item.ways, 1),
        0,
      );
      return {
        text: text(),
        skippable: optional || inner.some((one) => one.items.every(({ skippable }) => skippable)),
        unlimited: items.some(({ unlimited }) => unlimited),
        ways: ways + (optional ? 1 : 0),
      };
    }
    if (!this.#take(CHARACTER)) return null;
    const repeated = this.#take(REPEATED);
    const [least, most] = repeated === null ? [1, 1] : limits(repeated);
    return {
      text: text(),
      skippable: least === 0,
      unlimited: most === Number.POSITIVE_INFINITY,
      ways: most === Number.POSITIVE_INFINITY ? 1 : most - least + 1,
    };
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
