/** Names of properties that a schema does not name. */
import type { Slices } from "../../format/slices.ts";
import { isWithin, rangeClass } from "./characters.ts";
import { oneOf } from "./choices.ts";
import { literal } from "./json-rules.ts";
import type { OtherNames } from "./notation.ts";
import type { AddRule } from "./repeats.ts";

/** Beginnings of names that are distinguished: each costs a pass over the vocabulary. */
const MOST_BEGINNINGS = 64;

interface Beginning {
  /** The rests of the names with this beginning. */
  readonly rests: readonly (readonly string[])[];
  /** By the next character. */
  readonly next: Map<string, Beginning>;
}

/**
 * Names that are not in `names`, of characters that represent themselves; an expression. Exact up to MOST_BEGINNINGS; beyond,
 * names that share such a beginning with one of `names` are excluded as well.
 */
export function* nameExcept(names: readonly string[], how: OtherNames, rule: AddRule): Slices<string> {
  if (names.length === 0) return how.any;
  // Names with other characters are not in `names` anyway.
  const plain = names
    .filter((name) => isWithin(name, how.characters))
    .map((name) => [...name].slice(0, MOST_BEGINNINGS));
  const root: Beginning = { rests: plain, next: new Map() };
  const all = [root];
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
  // Rules that others refer to come first.
  const rules = new Map<Beginning, string>();
  for (const beginning of all.reverse()) {
    yield;
    rules.set(beginning, rule(after(beginning, beginning === root && !how.mayBeEmpty, how, rules, rule)));
  }
  return `${how.open} ${rules.get(root)}`;
}

function after(
  { rests, next }: Beginning,
  isEmpty: boolean,
  { close, rest, characters }: OtherNames,
  rules: ReadonlyMap<Beginning, string>,
  rule: AddRule,
): string {
  const isNone = isEmpty || rests.some((rest) => rest.length === 0);
  const firsts = [...next.keys()].map((first) => first.codePointAt(0) ?? 0);
  const others = rangeClass(
    firsts.map((point) => [point, point]),
    true,
    characters,
  );
  const choices = [
    ...(isNone ? [] : [close]),
    ...others.map((other) => `${other} ${rest}`),
    ...[...next].flatMap(([first, beginning]) => {
      const longer = rules.get(beginning);
      return longer === undefined ? [] : [`${literal(first)} ${longer}`];
    }),
  ];
  return firsts.every((point) => point < 0x80) ? choices.join(" | ") : oneOf(choices, rule);
}
