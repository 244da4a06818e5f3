/**
 * Runs a Jinja chat template inside bounds. The kept library (@huggingface/jinja) parses and evaluates; this file
 * owns the limits, the global functions and what a failure is called. Refuses to know messages and tokens. The one
 * idea: a template is code out of a downloaded file, so every evaluation step is counted and every value weighed.
 */
import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { FormatError, NibbleError, UnsupportedError } from "./errors.ts";

export type TemplateVariables = Readonly<Record<string, unknown>>;

export interface Bounds {
  /** Evaluated nodes, and long values by their length. Real templates need some hundred a message. */
  readonly steps: number;
  /** Characters in one value, and so in the result. */
  readonly characters: number;
  /** Elements in one list. */
  readonly elements: number;
}

/** Some two seconds of work at most. */
const BOUNDS: Bounds = { steps: 20_000_000, characters: 2 ** 26, elements: 2 ** 20 };

/** Characters of a template; the longest published ones have 20,000. */
const LONGEST = 2 ** 19;
/** Blanks in a row: the library looks for them in a way that is quadratic in their number. */
const LONGEST_BLANK = 1024;

// The library's declarations import each other without endings, which "nodenext" does not resolve (@huggingface/jinja
// 0.5.11): what is used of it is declared here, until that resolves.
interface Node {
  readonly type: string;
}
interface Value {
  readonly value: unknown;
}
interface Scope {
  set(name: string, value: unknown): void;
}
interface Evaluator {
  run(program: Node): Value;
  evaluate(node: Node | undefined, scope: Scope): Value;
}
const NewScope = Environment as unknown as new () => Scope;
const LibraryInterpreter = Interpreter as unknown as new (scope: Scope) => Evaluator;

/** The exception of a template that calls raise_exception. */
class Raised extends Error {}

export class JinjaTemplate {
  readonly #program: Node;
  readonly #place: string;
  readonly #weight: number;

  /** Parses `source`; FormatError at `place` (a key or file) when it is too long or no template. */
  constructor(source: string, place: string) {
    this.#place = place;
    this.#weight = source.length;
    if (source.length > LONGEST) {
      throw new FormatError(place, `a template of ${source.length} characters`, `at most ${LONGEST}`);
    }
    const blank = longestBlank(source);
    if (blank > LONGEST_BLANK)
      throw new FormatError(place, `${blank} blanks in a row`, `at most ${LONGEST_BLANK}`);
    try {
      this.#program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true })) as Node;
    } catch (cause) {
      throw new FormatError(place, `no Jinja template (${messageOf(cause)})`, undefined, { cause });
    }
  }

  /**
   * The text of the template with these variables. UnsupportedError with the template's own words when it refuses
   * them or uses what the library lacks; FormatError when it passes a bound.
   */
  run(variables: TemplateVariables, now: Date, bounds = BOUNDS): string {
    const scope = new NewScope();
    const globals = { ...CONSTANTS, ...variables, ...functions(now, bounds, this.#place) };
    try {
      for (const [name, value] of Object.entries(globals)) scope.set(name, value);
      const interpreter = new BoundedInterpreter(scope, bounds, this.#place, this.#weight);
      return String(interpreter.run(this.#program).value);
    } catch (cause) {
      if (cause instanceof NibbleError) throw cause;
      if (cause instanceof Raised)
        throw new UnsupportedError(`this conversation (${this.#place}: ${cause.message})`);
      throw new UnsupportedError(`what ${this.#place} does with these messages (${messageOf(cause)})`);
    }
  }
}

const CONSTANTS = { true: true, false: false, none: null, True: true, False: false, None: null };

/** The functions that Hugging Face gives to templates. */
function functions(now: Date, bounds: Bounds, place: string) {
  return {
    raise_exception(message: unknown): never {
      throw new Raised(String(message));
    },
    range(start: number, stop?: number, step = 1): number[] {
      const [from, to] = stop === undefined ? [0, start] : [start, stop];
      const count = Math.max(0, Math.ceil((to - from) / step));
      if (!(count <= bounds.elements)) throw tooMuch(place, `range() of ${count}`, bounds.elements);
      return Array.from({ length: count }, (_, i) => from + i * step);
    },
    strftime_now: (format: string) => strftime(now, String(format)),
  };
}

class BoundedInterpreter extends LibraryInterpreter {
  #steps = 0;

  constructor(
    scope: Scope,
    readonly bounds: Bounds,
    readonly place: string,
    readonly weight: number,
  ) {
    super(scope);
  }

  override evaluate(node: Node | undefined, scope: Scope): Value {
    // The library walks the whole body of a macro where it is defined or called with a block.
    this.#spend(node?.type === "Macro" || node?.type === "CallStatement" ? this.weight : 1);
    const result = super.evaluate(node, scope);
    const { value } = result;
    if (typeof value === "string") {
      if (value.length > this.bounds.characters) {
        throw tooMuch(this.place, `a text of ${value.length} characters`, this.bounds.characters);
      }
      this.#spend(value.length >> 8);
    } else if (Array.isArray(value)) {
      if (value.length > this.bounds.elements) {
        throw tooMuch(this.place, `a list of ${value.length}`, this.bounds.elements);
      }
      this.#spend(value.length >> 3);
    }
    return result;
  }

  #spend(steps: number): void {
    this.#steps += steps;
    if (this.#steps > this.bounds.steps)
      throw tooMuch(this.place, "more steps than a template needs", this.bounds.steps);
  }
}

function tooMuch(place: string, found: string, allowed: number): FormatError {
  return new FormatError(place, found, `at most ${allowed}`);
}

function messageOf(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  return message.length > 300 ? `${message.slice(0, 297)}...` : message;
}

function longestBlank(text: string): number {
  let longest = 0;
  for (const [blank] of text.matchAll(/\s+/g)) longest = Math.max(longest, blank.length);
  return longest;
}

/** Python's strftime for the codes that templates use, in English; an unknown code stays as it is. */
function strftime(now: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const name = (options: Intl.DateTimeFormatOptions) => new Intl.DateTimeFormat("en-US", options).format(now);
  const codes: Record<string, () => string> = {
    Y: () => String(now.getFullYear()),
    m: () => two(now.getMonth() + 1),
    d: () => two(now.getDate()),
    H: () => two(now.getHours()),
    M: () => two(now.getMinutes()),
    S: () => two(now.getSeconds()),
    B: () => name({ month: "long" }),
    b: () => name({ month: "short" }),
    A: () => name({ weekday: "long" }),
    a: () => name({ weekday: "short" }),
    "%": () => "%",
  };
  return format.replace(/%([A-Za-z%])/g, (whole, code: string) => codes[code]?.() ?? whole);
}
