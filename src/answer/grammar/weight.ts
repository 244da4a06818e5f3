/**
 * What a grammar costs before it is compiled. XGrammar makes a state for each byte of a literal, each class and each
 * rule reference, once for each repetition of a part, and tries tokens at each state: few for a literal or a
 * class of few characters, most of the vocabulary for a class of many, and for a look-ahead up to the end of each token.
 */
export interface Weight {
  /** Bytes of literals. */
  readonly bytes: number;
  readonly states: number;
  /** States that most of the vocabulary is tried at. */
  readonly wide: number;
}

export const NOTHING: Weight = { bytes: 0, states: 0, wide: 0 };

/** Classes with at least this many ASCII characters count as wide: 10 digits do not, letters do. */
const WIDE = 16;

/** The weight of a look-ahead. */
const LOOK_AHEAD: Weight = { bytes: 0, states: 0, wide: 4 };

/**
 * Estimated time to compile, with a vocabulary of N tokens. Measured with those of needle (4,096) and
 * Qwen 2 (151,936): CPU time on two cores of a shared machine, 2026-11-28, XGrammar 0.1.27 in WASM.
 */
export function msOf({ bytes, states, wide }: Weight, vocab: number): number {
  return bytes * 0.01 + states * (0.02 + vocab * 7e-7) + wide * vocab * 3e-4;
}

/** The weight of the right-hand side of a rule, without the rules that it names. Takes time linear in its length. */
export function weightOf(body: string): Weight {
  return new Scale(body).weight();
}

/** Goes through a rule once, character by character: rules are many, and the server waits. */
class Scale {
  readonly #body: string;
  #at = 0;

  constructor(body: string) {
    this.#body = body;
  }

  /** The weight of the text up to the closing bracket, or to the end. */
  weight(): Weight {
    const body = this.#body;
    let sum = NOTHING;
    /** What a repetition that follows repeats. */
    let last = NOTHING;
    const add = (weight: Weight) => {
      last = weight;
      sum = plus(sum, weight, 1);
    };
    while (this.#at < body.length) {
      const c = body[this.#at++];
      if (c === '"') add({ ...NOTHING, bytes: this.#literal() });
      else if (c === "[") add(this.#class());
      else if (c === "(") {
        if (body[this.#at] === "=") sum = plus(sum, LOOK_AHEAD, 1);
        add(this.weight());
      } else if (c === ")") return sum;
      else if (c === "{") sum = plus(sum, last, this.#times() - 1);
      else if (c === "+") sum = plus(sum, last, 1);
      else if (isLetter(c)) {
        while (this.#at < body.length && isLetter(body[this.#at])) this.#at++;
        add(ONE);
      }
    }
    return sum;
  }

  /** Its bytes. */
  #literal(): number {
    let bytes = 0;
    for (; this.#at < this.#body.length; this.#at++) {
      const c = this.#body[this.#at];
      if (c === '"') break;
      if (c === "\\") this.#at += this.#body[this.#at + 1] === "x" ? 3 : 1;
      // Half of a surrogate pair is half of four bytes.
      bytes += c < "\x80" ? 1 : c < "\u0800" || (c >= "\ud800" && c < "\ue000") ? 2 : 3;
    }
    this.#at++;
    return bytes;
  }

  #class(): Weight {
    const from = this.#at;
    while (this.#at < this.#body.length && this.#body[this.#at] !== "]")
      this.#at += this.#body[this.#at] === "\\" ? 2 : 1;
    const characters = this.#body.slice(from, this.#at++);
    return widthOf(characters) < WIDE ? ONE : ONE_WIDE;
  }

  /** The maximum of {m}, {m,}, {m,n}. */
  #times(): number {
    const end = this.#body.indexOf("}", this.#at);
    const [low, high] = this.#body.slice(this.#at, end).split(",").map(Number);
    this.#at = end + 1;
    return Math.max(low, high ?? 0);
  }
}

const ONE: Weight = { ...NOTHING, states: 1 };
const ONE_WIDE: Weight = { ...NOTHING, states: 1, wide: 1 };

function isLetter(c: string): boolean {
  return (c >= "a" && c <= "z") || (c >= "0" && c <= "9");
}

/** How many characters of ASCII a class has; of one that is negated, all. */
function widthOf(characters: string): number {
  if (characters.startsWith("^")) return 128;
  // A class of a few single characters.
  if (characters.length < WIDE && !characters.includes("-")) return characters.length;
  const point = (written: string) =>
    written.startsWith("\\x") ? Number.parseInt(written.slice(2), 16) : (written.codePointAt(0) ?? 0);
  let width = 0;
  for (const [, low, high] of characters.matchAll(/(\\x..|\\?.)(?:-(\\x..|\\?.))?/gu))
    width += high === undefined ? 1 : point(high) - point(low) + 1;
  return width;
}

export function plus(a: Weight, b: Weight, times: number): Weight {
  return {
    bytes: a.bytes + times * b.bytes,
    states: a.states + times * b.states,
    wide: a.wide + times * b.wide,
  };
}
