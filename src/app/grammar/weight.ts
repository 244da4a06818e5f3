/**
 * What a grammar costs before it is compiled. XGrammar makes a state of each byte of a literal and of each class, once
 * for each time that a part is repeated, and for each state it goes through the vocabulary: through few tokens for a
 * literal or a class of few characters, through most of them for a class of many.
 */
export interface Weight {
  /** All states. */
  readonly states: number;
  /** Of these, those that most of the vocabulary is tried at. */
  readonly wide: number;
}

/** Classes of so many characters of ASCII count as wide: 10 digits do not, letters do. */
const WIDE = 16;

/**
 * About how long it takes to compile, with a vocabulary of so many tokens. Measured with those of needle (4,096), Qwen 2
 * (151,936) and Gemma 4 (262,144) on two cores of a shared machine, 2026-11-28, XGrammar 0.1.27 in WASM.
 */
export function msOf({ states, wide }: Weight, vocab: number): number {
  return states * (0.03 + vocab * 1e-6) + wide * vocab * 5e-4;
}

const TOKEN = /"((?:[^"\\]|\\x..|\\.)*)"|\[((?:[^\]\\]|\\.)*)\]|([()])|\{(\d*)(?:,(\d*))?\}|\+|[\w]+/g;

/** Of the right-hand side of a rule; rules that it names are not counted. Linear in its length. */
export function weightOf(body: string): Weight {
  const open: Weight[] = [];
  let sum: Weight = { states: 0, wide: 0 };
  /** What a repetition that follows repeats. */
  let last: Weight = { states: 0, wide: 0 };
  const add = (weight: Weight) => {
    last = weight;
    sum = plus(sum, weight, 1);
  };
  for (const [token, text, characters, bracket, low, high] of body.matchAll(TOKEN)) {
    if (text !== undefined) add({ states: bytesOf(text.replace(/\\x..|\\./g, "c")), wide: 0 });
    else if (characters !== undefined) add({ states: 1, wide: widthOf(characters) < WIDE ? 0 : 1 });
    else if (bracket === "(") {
      open.push(sum);
      sum = { states: 0, wide: 0 };
    } else if (bracket === ")") {
      last = sum;
      sum = plus(open.pop() ?? sum, last, 1);
    } else if (low !== undefined) sum = plus(sum, last, Math.max(Number(low), Number(high ?? 0)) - 1);
    else if (token === "+") sum = plus(sum, last, 1);
    else add({ states: 1, wide: 0 });
  }
  return sum;
}

function bytesOf(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** How many characters of ASCII a class has; of one that is negated, all. */
function widthOf(characters: string): number {
  if (characters.startsWith("^")) return 128;
  const point = (written: string) =>
    written.startsWith("\\x") ? Number.parseInt(written.slice(2), 16) : (written.codePointAt(0) ?? 0);
  let width = 0;
  for (const [, low, high] of characters.matchAll(/(\\x..|\\?.)(?:-(\\x..|\\?.))?/gu))
    width += high === undefined ? 1 : point(high) - point(low) + 1;
  return width;
}

export function plus(a: Weight, b: Weight, times: number): Weight {
  return { states: a.states + times * b.states, wide: a.wide + times * b.wide };
}
