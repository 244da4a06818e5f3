/**
 * A regular expression of a schema as a rule for the inside of a string. Supported are
 * characters, classes, groups, alternatives and repetitions; a look-around, a back-reference or a boundary is refused.
 * The one idea: every text of the rule matches the expression, from its first character to its last; the
 * expression may match more (parts of longer texts, characters that JSON has to escape), never less.
 */
import { unsupported } from "../errors.ts";
import { type Range, rangeClass } from "./characters.ts";
import { oneOf } from "./choices.ts";
import type { Counted } from "./counted.ts";
import { literal } from "./json-rules.ts";
import type { Notation } from "./notation.ts";
import { type AddRule, repeated } from "./repeats.ts";

const LONGEST = 1000;
const DEEPEST = 40;
const MOST_TIMES = 1000;
/** Longest repetition of variable length: a text may be divided into several in many ways, and all are followed. */
const MOST_VARYING = 4;
/** More repetitions than that are worth a rule for what is repeated. */
const MANY = 16;

interface Times {
  readonly low: number;
  /** null: unbounded. */
  readonly high: number | null;
}

const CLASSES: Readonly<Record<string, readonly Range[]>> = {
  d: [[0x30, 0x39]],
  w: [
    [0x30, 0x39],
    [0x41, 0x5a],
    [0x5f, 0x5f],
    [0x61, 0x7a],
  ],
  s: [[0x20, 0x20]],
};
const CONTROLS: Readonly<Record<string, number>> = { n: 10, t: 9, r: 13, f: 12, v: 11 };

/** An expression. Throws PlaceError for what is not supported, with the place in the schema. */
export function patternRule(
  pattern: string,
  place: string,
  rule: AddRule,
  counted: Counted,
  notation: Notation,
): string {
  return new PatternReader(pattern, place, rule, counted, notation).expression();
}

class PatternReader {
  readonly #text: readonly string[];
  readonly #place: string;
  readonly #rule: AddRule;
  readonly #counted: Counted;
  readonly #notation: Notation;
  #at = 0;
  /** Unbounded or multiple repetitions that were read so far. */
  #repeats = 0;
  #varying = 0;

  constructor(pattern: string, place: string, rule: AddRule, counted: Counted, notation: Notation) {
    this.#notation = notation;
    this.#text = [...pattern];
    this.#place = place;
    this.#rule = rule;
    this.#counted = counted;
    if (this.#text.length > LONGEST) throw this.#refuse(`of ${this.#text.length} characters`);
  }

  expression(): string {
    const all = this.#alternatives(0);
    if (this.#at < this.#text.length) throw this.#refuse("with a bracket too many");
    return all;
  }

  #alternatives(depth: number): string {
    if (depth > DEEPEST) throw this.#refuse("that nests too deep");
    const choices = [this.#sequence(depth)];
    while (this.#takes("|")) choices.push(this.#sequence(depth));
    return `(${oneOf(choices, this.#rule)})`;
  }

  #sequence(depth: number): string {
    const parts: { part: string; times: Times | null }[] = [];
    // The rule matches from the first character to the last anyway.
    if (depth === 0) this.#takes("^");
    while (this.#at < this.#text.length && !"|)".includes(this.#text[this.#at])) {
      if (depth === 0 && this.#text[this.#at] === "$" && "|".includes(this.#text[this.#at + 1] ?? "|")) {
        this.#at++;
        break;
      }
      const before = this.#repeats;
      const part = this.#atom(depth);
      const times = this.#times();
      // A text could be divided into such repetitions in many ways, and all would be followed.
      if (times && times.high !== 1) {
        if (this.#repeats > before) throw this.#refuse("with a repetition of repetitions");
        // An exact number of times has only one way.
        if (times.low !== times.high) this.#repeats++;
      }
      const last = parts.at(-1);
      if (times && last?.times && last.part === part) last.times = sum(last.times, times);
      else parts.push({ part, times });
    }
    if (parts.length === 0) return '""';
    return parts.map(({ part, times }) => (times ? this.#repeated(part, times) : part)).join(" ");
  }

  #atom(depth: number): string {
    const c = this.#text[this.#at++];
    if (c === "(") {
      if (this.#takes("?") && !this.#takes(":")) throw this.#refuse(`with (?${this.#text[this.#at] ?? ""}`);
      const group = this.#alternatives(depth + 1);
      if (!this.#takes(")")) throw this.#refuse("with an open bracket");
      return group;
    }
    if (c === "[") return this.#class();
    if (c === ".") return this.#classOf([], true);
    if (c === "\\") {
      const escaped = this.#escape();
      return typeof escaped === "number"
        ? this.#character(escaped)
        : this.#classOf(escaped.ranges, escaped.isNot);
    }
    if ("^$*+?{}".includes(c)) throw this.#refuse(`with ${c} where it means something else here`);
    return this.#character(c.codePointAt(0) ?? 0);
  }

  #class(): string {
    const isNot = this.#takes("^");
    const ranges: Range[] = [];
    while (!this.#takes("]")) {
      const low = this.#classPart();
      if (typeof low !== "number") {
        if (low.isNot) throw this.#refuse("with a negated class inside of a class");
        ranges.push(...low.ranges);
        continue;
      }
      const isRange = this.#text[this.#at] === "-" && this.#text[this.#at + 1] !== "]";
      if (isRange) this.#at++;
      const high = isRange ? this.#classPart() : low;
      if (typeof high !== "number" || high < low) throw this.#refuse("with a range that is none");
      ranges.push([low, high]);
    }
    return this.#classOf(ranges, isNot);
  }

  #classPart(): number | { ranges: readonly Range[]; isNot: boolean } {
    const c = this.#text[this.#at++];
    if (c === undefined) throw this.#refuse("with an open class");
    return c === "\\" ? this.#escape() : (c.codePointAt(0) ?? 0);
  }

  #classOf(ranges: readonly Range[], isNot: boolean): string {
    const found = rangeClass(ranges, isNot, this.#notation.plain);
    if (found.length === 0) throw this.#refuse("with a class that has no character");
    return oneOf(found, this.#rule);
  }

  /** After a backslash: a character's number, or a class. */
  #escape(): number | { ranges: readonly Range[]; isNot: boolean } {
    const c = this.#text[this.#at++];
    const lower = c?.toLowerCase() ?? "";
    if (Object.hasOwn(CLASSES, lower)) return { ranges: CLASSES[lower], isNot: c !== lower };
    if (Object.hasOwn(CONTROLS, c ?? "")) return CONTROLS[c];
    const digits = c === "x" ? 2 : c === "u" ? 4 : 0;
    const hex = this.#text.slice(this.#at, this.#at + digits).join("");
    if (digits > 0 && hex.length === digits && /^[0-9a-f]+$/i.test(hex)) {
      this.#at += digits;
      return Number.parseInt(hex, 16);
    }
    if (c === undefined || /[\p{L}\p{N}]/u.test(c)) throw this.#refuse(`with \\${c ?? ""}`);
    return c.codePointAt(0) ?? 0;
  }

  /** In a rule of its own the part is compiled once, not for each repetition. */
  #repeated(part: string, { low, high }: Times): string {
    if (high !== null && high - low > MANY && ++this.#varying > MOST_VARYING)
      throw this.#refuse(`with more than ${MOST_VARYING} repetitions of 0 to more than ${MANY} times`);
    if (Math.max(low, high ?? 0) <= MANY) return repeated(part, low, high, this.#rule);
    if (!part.startsWith("[")) return repeated(this.#rule(`${part} nothing`), low, high, this.#rule);
    const other = part.startsWith("[^") ? part.replace("^", "") : part.replace("[", "[^");
    return this.#counted.expression({ one: [part], other, many: `${part}*`, end: "" }, low, high);
  }

  /** *, +, ?, {m}, {m,}, {m,n}; null: none. */
  #times(): Times | null {
    const c = this.#text[this.#at] ?? "";
    let found: Times;
    if (c !== "" && "*+?".includes(c)) {
      this.#at++;
      found = { low: c === "+" ? 1 : 0, high: c === "?" ? 1 : null };
    } else if (c === "{") {
      const rest = this.#text.slice(this.#at, this.#at + 16).join("");
      const [all, least, more, most] = /^\{(\d{1,4})(,(\d{1,4})?)?\}/.exec(rest) ?? [];
      if (all === undefined || Number(most ?? least) < Number(least) || Number(most ?? least) > MOST_TIMES)
        throw this.#refuse(`with a repetition that is not of 0 to ${MOST_TIMES} times`);
      this.#at += all.length;
      const high = more === undefined ? Number(least) : most === undefined ? null : Number(most);
      found = { low: Number(least), high };
    } else return null;
    // Lazy repetitions differ only in what they find in a longer text; here the whole text must match.
    this.#takes("?");
    return found;
  }

  #takes(c: string): boolean {
    if (this.#text[this.#at] !== c) return false;
    this.#at++;
    return true;
  }

  #character(point: number): string {
    const character = String.fromCodePoint(point);
    const written = this.#notation.character(character);
    if (written === null) throw this.#refuse(`with ${character} in arguments that this model writes bare`);
    return literal(written);
  }

  #refuse(what: string) {
    return unsupported(this.#place, `${this.#place}: a pattern ${what} is not supported in schemas`);
  }
}

/** A repetition followed by another of the same part. */
function sum(a: Times, b: Times): Times {
  return { low: a.low + b.low, high: a.high === null || b.high === null ? null : a.high + b.high };
}
