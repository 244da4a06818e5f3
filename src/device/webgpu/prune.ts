/**
 * Removes branches from WGSL whose conditions are constants: the text of a kernel's variant contains only what it does.
 * Compilers drop such branches, too, but late: with branches of another cache format in it, which never ran, a decode
 * kernel took 1.7 times as long on an H200 (lab/LOG.md, 2026-11-28). Line numbers are kept, for compilers' messages.
 */

type Known = number | boolean;
type Lookup = (name: string) => Known | undefined;

/**
 * `text` without the branches that its module-scope constants rule out. Integer and boolean constants are considered.
 */
export function prune(text: string): string {
  return withoutDead(text, constantsOf(text));
}

function constantsOf(text: string): Lookup {
  const expressions = new Map<string, string>();
  for (const [, name, expression] of text.matchAll(/^const (\w+)(?:: *\w+)? *= *([^;]*);/gm))
    expressions.set(name, expression);
  const found = new Map<string, Known | undefined>();
  const lookup: Lookup = (name) => {
    const expression = expressions.get(name);
    if (expression === undefined || found.has(name)) return found.get(name);
    found.set(name, undefined);
    const value = new Condition(expression, lookup).value();
    found.set(name, value);
    return value;
  };
  return lookup;
}

function withoutDead(text: string, lookup: Lookup): string {
  let result = "";
  let done = 0;
  const search = /\/\/[^\n]*|\bif\s*\(/g;
  for (let match = search.exec(text); match; match = search.exec(text)) {
    if (match[0].startsWith("//")) continue;
    const open = search.lastIndex - 1;
    const close = closing(text, open);
    const value = new Condition(text.slice(open + 1, close), lookup).value();
    if (typeof value !== "boolean") continue;
    const branch = bodyAt(text, close + 1);
    const other = elseAt(text, branch.end);
    const before = text.slice(done, match.index);
    const isElse = /\belse\s*$/.test(before);
    const kept = value ? branch : other;
    const end = other?.end ?? branch.end;
    const dropped = (from: number, to: number) => text.slice(from, to).replace(/[^\n]/g, "");
    const body = kept && withoutDead(text.slice(kept.start, kept.end), lookup);
    // The compiler would warn about what follows.
    const until = body && !isElse && leaves(body.replace(/\/\/[^\n]*/g, "")) ? enclosingEnd(text, end) : end;
    result += before + dropped(match.index, kept?.start ?? end);
    if (kept) result += body + dropped(kept.end, until);
    else if (isElse) result += "{}";
    done = until;
    search.lastIndex = until;
  }
  return result + text.slice(done);
}

/** Whether a block's last statement leaves it, or is itself a block whose last statement does; comments are ignored. */
function leaves(block: string): boolean {
  const trimmed = block.trim();
  if (!trimmed.startsWith("{")) return false;
  const inner = trimmed.slice(1, -1).trim();
  if (inner.endsWith(";")) return /(^|[;{}]\s*)(return|continue|break)\b[^;{}]*;$/.test(inner);
  if (!inner.endsWith("}")) return false;
  const open = opening(inner);
  return /(^|[;{}])\s*$/.test(inner.slice(0, open)) && leaves(inner.slice(open));
}

/** The start of the block that ends a text. */
function opening(text: string): number {
  let depth = 0;
  for (let i = text.length - 1; ; i--) {
    if (text[i] === "}") depth++;
    else if (text[i] === "{" && --depth === 0) return i;
    else if (i < 0) throw new Error("WGSL: } without its {");
  }
}

/** The end of the block around `from`. */
function enclosingEnd(text: string, from: number): number {
  for (let i = from; ; i++) {
    if (text.startsWith("//", i)) i = text.indexOf("\n", i);
    else if (text[i] === "{") i = closing(text, i);
    else if (text[i] === "}") return i;
    else if (text[i] === undefined) throw new Error("WGSL: a statement outside of a block");
  }
}

interface Range {
  readonly start: number;
  readonly end: number;
}

/** The block that follows. */
function bodyAt(text: string, from: number): Range {
  const start = text.indexOf("{", from);
  return { start, end: closing(text, start) + 1 };
}

/** What follows an `else`: a block, or an `if` with everything that belongs to it. */
function elseAt(text: string, from: number): Range | null {
  const start = startOfElse(text, from);
  if (start === null) return null;
  if (text[start] === "{") return bodyAt(text, start);
  const body = bodyAt(text, closing(text, text.indexOf("(", start)) + 1);
  return { start, end: elseAt(text, body.end)?.end ?? body.end };
}

function startOfElse(text: string, from: number): number | null {
  const found = /^\s*else\s*/.exec(text.slice(from, from + 200));
  return found && from + found[0].length;
}

const PAIRS: Readonly<Record<string, string>> = { "(": ")", "{": "}" };

/** The bracket that closes the one at `open`. */
function closing(text: string, open: number): number {
  const [opens, closes] = [text[open], PAIRS[text[open]]];
  let depth = 0;
  for (let i = open; i < text.length; i++) {
    if (text.startsWith("//", i)) i = text.indexOf("\n", i);
    else if (text[i] === opens) depth++;
    else if (text[i] === closes && --depth === 0) return i;
  }
  throw new Error(`WGSL: ${opens} without its ${closes}`);
}

const TOKEN = /\d[\w.]*|[A-Za-z_]\w*|<<|>>|&&|\|\||[=!<>]=|\S/g;

/** Operators by precedence, lowest first. */
const LEVELS: readonly (readonly string[])[] = [
  ["||"],
  ["&&"],
  ["|"],
  ["&"],
  ["==", "!=", "<", "<=", ">", ">="],
  ["<<", ">>"],
  ["+", "-"],
  ["*", "/", "%"],
];

const FUNCTIONS: Readonly<Record<string, (...args: Known[]) => Known>> = {
  select: (no, yes, condition) => (condition ? yes : no),
  min: (a, b) => Math.min(Number(a), Number(b)),
  max: (a, b) => Math.max(Number(a), Number(b)),
};

const OPERATORS: Readonly<Record<string, (a: number, b: number) => Known>> = {
  "|": (a, b) => (a | b) >>> 0,
  "&": (a, b) => (a & b) >>> 0,
  "==": (a, b) => a === b,
  "!=": (a, b) => a !== b,
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
  "<<": (a, b) => (a << b) >>> 0,
  ">>": (a, b) => a >>> b,
  "+": (a, b) => a + b,
  "-": (a, b) => a - b,
  "*": (a, b) => a * b,
  "/": (a, b) => Math.trunc(a / b),
  "%": (a, b) => a % b,
};

/** An expression of constants; anything else in it, and fractions, make it unknown. */
class Condition {
  readonly #tokens: readonly string[];
  readonly #lookup: Lookup;
  #at = 0;

  constructor(text: string, lookup: Lookup) {
    this.#tokens = text.match(TOKEN) ?? [];
    this.#lookup = lookup;
  }

  value(): Known | undefined {
    const value = this.#level(0);
    return this.#at === this.#tokens.length ? value : undefined;
  }

  #level(level: number): Known | undefined {
    if (level === LEVELS.length) return this.#operand();
    let left = this.#level(level + 1);
    while (LEVELS[level].includes(this.#tokens[this.#at])) {
      const operator = this.#tokens[this.#at++];
      left = combined(operator, left, this.#level(level + 1));
    }
    return left;
  }

  #operand(): Known | undefined {
    const token = this.#tokens[this.#at++];
    if (token === undefined) return undefined;
    if (token === "!") {
      const value = this.#operand();
      return typeof value === "boolean" ? !value : undefined;
    }
    if (token === "(") {
      const value = this.#level(0);
      return this.#tokens[this.#at++] === ")" ? value : undefined;
    }
    if (token === "true" || token === "false") return token === "true";
    if (/^\d/.test(token))
      return /^(0x[0-9a-f]+|\d+)[ui]?$/.test(token) ? Number(token.replace(/[ui]$/, "")) : undefined;
    if (this.#tokens[this.#at] === "(") return this.#call(token);
    return this.#lookup(token);
  }

  #call(name: string): Known | undefined {
    const args: (Known | undefined)[] = [];
    do {
      this.#at++;
      args.push(this.#level(0));
    } while (this.#tokens[this.#at] === ",");
    if (this.#tokens[this.#at++] !== ")" || !Object.hasOwn(FUNCTIONS, name)) return undefined;
    const known = args.filter((arg) => arg !== undefined);
    return known.length === args.length ? FUNCTIONS[name](...known) : undefined;
  }
}

function combined(operator: string, a: Known | undefined, b: Known | undefined): Known | undefined {
  if (operator === "&&")
    return a === false || b === false ? false : a === true && b === true ? true : undefined;
  if (operator === "||")
    return a === true || b === true ? true : a === false && b === false ? false : undefined;
  if (a === undefined || b === undefined) return undefined;
  return OPERATORS[operator](Number(a), Number(b));
}
