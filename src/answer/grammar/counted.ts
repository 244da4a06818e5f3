/**
 * Counted characters. XGrammar finds once for each rule which tokens it accepts; a token that reaches beyond the
 * rule has to be tried each time. Where characters are counted nearly every token reaches beyond the rule of one character,
 * and trying 150,000 tokens takes 0.1 s. The one idea: while AHEAD more characters are allowed in any case, a rule that
 * reports what is AHEAD of it decides all tokens at once (a look-ahead, which the library takes as exact when the rule is
 * named once and not at an end); only the last AHEAD characters are left to be tried.
 */
import { type AddRule, repeated, times, upTo } from "./repeats.ts";

/** Longer tokens are tried one by one. */
const AHEAD = 32;

export interface Characters {
  /** One of them: alternatives. */
  readonly one: readonly string[];
  /** A character that may follow them and is none of them. */
  readonly other: string;
  /** Any number of them, and what ends them. */
  readonly many: string;
  /** What ends them. */
  readonly end: string;
}

interface Rules {
  /** One character. */
  readonly near: string;
  /** One, where AHEAD more are allowed. */
  readonly far: string;
}

export class Counted {
  readonly #rule: AddRule;
  /** By their definition. */
  readonly #known = new Map<string, Rules>();

  constructor(rule: AddRule) {
    this.#rule = rule;
  }

  /** low to high characters, high null without end, and their end. */
  expression(characters: Characters, low: number, high: number | null): string {
    const rule = this.#rule;
    const { many, end } = characters;
    const { near, far } = this.#rules(characters);
    if (high === null) return `${times(far, low, rule)} ${many}`;
    const most = high - AHEAD;
    if (most <= 0) return `${repeated(near, low, high, rule)} ${end}`;
    if (low > most) return `${times(far, most, rule)} ${repeated(near, low - most, AHEAD, rule)} ${end}`;
    const full = rule(`${upTo(near, AHEAD, rule)} ${end}`);
    return `${times(far, low, rule)} ${upTo(far, most - low, rule, { full, less: end })}`;
  }

  #rules({ one, other }: Characters): Rules {
    const key = one.join();
    const known = this.#known.get(key);
    if (known) return known;
    const rule = this.#rule;
    // A rule that names no other would be inlined, and its look-ahead lost.
    const alternatives = one.map((part) => `${part} nothing`).join(" | ");
    const near = rule(alternatives);
    const after = rule(`${other} nothing`);
    let ahead = "nothing";
    for (let i = 0; i < AHEAD; i++) ahead = rule(`${after} | ${near} ${ahead}`);
    const within = rule(`${alternatives} (= ${ahead})`);
    const rules = { near, far: rule(`${within} nothing`) };
    this.#known.set(key, rules);
    return rules;
  }
}
