/** Names of properties that a schema does not name. */
import type { Slices } from "../../format/slices.ts";
import { isPlain, PLAIN, rangeClass } from "./characters.ts";
import { oneOf } from "./choices.ts";
import { literal } from "./json-rules.ts";
import type { AddRule } from "./repeats.ts";

/** Beginnings of names that are told apart: each costs a pass over the vocabulary. */
const MOST_BEGINNINGS = 64;

interface Beginning {
  /** What is left of the names that begin so. */
  readonly rests: readonly (readonly string[])[];
  /** By the character that follows. */
  readonly next: Map<string, Beginning>;
}

/**
 * JSON strings that are none of `names`, written without escapes; an expression. Exact up to MOST_BEGINNINGS; beyond,
 * what begins as far as that like one of the names is left out, which narrows and breaks nothing.
 */
export function* stringExcept(names: readonly string[], rule: AddRule): Slices<string> {
  if (names.length === 0) return "string";
  // What is written with an escape is none of these strings anyway.
  const plain = names.filter(isPlain).map((name) => [...name].slice(0, MOST_BEGINNINGS));
  const all: Beginning[] = [{ rests: plain, next: new Map() }];
  for (let at = 0; at < all.length; at++) {
    yield;
    const byFirst = new Map<string, (readonly string[])[]>();
    for (const [first, ...rest] of all[at].rests) {
      if (first === undefined) continue;
      const rests = byFirst.get(first) ?? [];
      rests.push(rest);
      byFirst.set(first, rests);
    }
    for (const [first, rests] of byFirst) {
      const beginning = { rests, next: new Map() };
      all[at].next.set(first, beginning);
      if (all.length < MOST_BEGINNINGS) all.push(beginning);
    }
  }
  // Those that follow come before those they follow.
  const rules = new Map<Beginning, string>();
  for (const beginning of all.reverse()) {
    yield;
    rules.set(beginning, rule(after(beginning, rules, rule)));
  }
  return `"\\"" ${rules.get(all[all.length - 1])}`;
}

function after({ rests, next }: Beginning, rules: ReadonlyMap<Beginning, string>, rule: AddRule): string {
  const isName = rests.some((rest) => rest.length === 0);
  const firsts = [...next.keys()].map((first) => first.codePointAt(0) ?? 0);
  const others =
    firsts.length === 0
      ? [PLAIN]
      : rangeClass(
          firsts.map((point) => [point, point]),
          true,
        );
  const choices = [
    ...(isName ? [] : ['"\\""']),
    ...others.map((other) => `${other} plain`),
    ...[...next].flatMap(([first, beginning]) => {
      const rest = rules.get(beginning);
      return rest === undefined ? [] : [`${literal(first)} ${rest}`];
    }),
  ];
  return firsts.every((point) => point < 0x80) ? choices.join(" | ") : oneOf(choices, rule);
}
