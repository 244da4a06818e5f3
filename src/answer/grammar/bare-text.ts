/** Text without quotes up to a mark that ends it, as rules: for notations that write strings bare. */
import { literal } from "./json-rules.ts";

/**
 * The rules of any text up to the first `end`, with it; the first of them has the name `name`. `end` begins with a character
 * that it has nowhere else: so a text that breaks off from it begins anew, and no other look back is needed.
 */
export function bareText(name: string, end: string): readonly (readonly [name: string, body: string])[] {
  const [first, ...rest] = end;
  const at = (step: number) => (step === 0 ? name : `${name}${step}`);
  return [first, ...rest].map((character, step): readonly [string, string] => {
    const isLast = step === rest.length;
    const others = step === 0 ? `[^${first}]` : `[^${first}${character}]`;
    const choices = [
      isLast ? literal(character) : `${literal(character)} ${at(step + 1)}`,
      ...(step === 0 ? [] : [`${literal(first)} ${at(1)}`]),
      `${others} ${name}`,
    ];
    return [at(step), choices.join(" | ")];
  });
}
