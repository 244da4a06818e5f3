/**
 * Runs a Jinja chat template like Hugging Face does, within limits. The language is in `jinja/`: @huggingface/jinja
 * parses, and an evaluator of our own runs its tree. The library's own evaluator has values that differ from Python's
 * (None, undefined, 1.0, tuples) and does its work before a limit could be checked, and neither can be fixed from
 * outside.
 */
import { FormatError, NibbleError, UnsupportedError } from "./errors.ts";
import { Evaluation, unknownNames } from "./jinja/evaluate.ts";
import { globals, Raised } from "./jinja/globals.ts";
import { type Bounds, Meter } from "./jinja/meter.ts";
import { Scope } from "./jinja/scope.ts";
import { type Node, parseTemplate } from "./jinja/syntax.ts";
import { toValue } from "./jinja/values.ts";
import { atOnce, type Slices } from "./slices.ts";

export type TemplateVariables = Readonly<Record<string, unknown>>;

/**
 * Steps that a template may take, plus steps for each value and for 32 characters of the conversation: a hostile file
 * costs a fraction of a second, and a long conversation gets what it needs. Real templates take a few hundred for a
 * message.
 */
const BOUNDS: Bounds = { steps: 2_000_000, characters: 2 ** 26, elements: 2 ** 20 };
const STEPS_BY_INPUT = 512;

/** Characters of a template; the longest published ones have 20,000. */
const LONGEST = 2 ** 19;
/** Consecutive blanks: the library's search for them takes quadratic time. */
const LONGEST_BLANK = 1024;

const CONSTANTS = { true: true, false: false, none: null, True: true, False: false, None: null };

export class JinjaTemplate {
  readonly #program: Node;
  readonly #place: string;

  /** Parses `source`; throws FormatError at `place` (a key or file) if it is too long or not a template. */
  constructor(source: string, place: string) {
    this.#place = place;
    if (source.length > LONGEST) {
      throw new FormatError(place, `a template of ${source.length} characters`, `at most ${LONGEST}`);
    }
    const blank = longestBlank(source);
    if (blank > LONGEST_BLANK)
      throw new FormatError(place, `${blank} blanks in a row`, `at most ${LONGEST_BLANK}`);
    try {
      this.#program = parseTemplate(source);
    } catch (cause) {
      throw new FormatError(place, `not a Jinja template (${messageOf(cause)})`, undefined, { cause });
    }
  }

  /** Unknown filters and tests that it uses. */
  unknownNames(): string[] {
    return unknownNames(this.#program);
  }

  /**
   * Renders the template with these variables. Throws UnsupportedError with the template's own message if it refuses
   * them or uses something unknown; FormatError if it exceeds a limit.
   */
  run(variables: TemplateVariables, now: Date, bounds?: Bounds): string {
    return atOnce(this.slices(variables, now, bounds));
  }

  *slices(variables: TemplateVariables, now: Date, bounds: Bounds = BOUNDS): Slices<string> {
    try {
      const input = new Meter({ ...bounds, steps: Number.MAX_SAFE_INTEGER }, this.#place);
      const given = Object.entries(variables).filter(([, value]) => value !== undefined);
      const values = given.map(([name, value]) => [name, toValue(value, input)] as const);
      const meter = new Meter({ ...bounds, steps: bounds.steps + input.spent * STEPS_BY_INPUT }, this.#place);
      const scope = new Scope();
      const all = [...Object.entries(CONSTANTS), ...globals(now, meter), ...values];
      for (const [name, value] of all) scope.set(name, value);
      return yield* new Evaluation(meter).run(this.#program, scope);
    } catch (cause) {
      if (cause instanceof NibbleError) throw cause;
      if (cause instanceof Raised)
        throw new UnsupportedError(`this conversation (${this.#place}: ${messageOf(cause)})`);
      throw new UnsupportedError(`what ${this.#place} does with these messages (${messageOf(cause)})`);
    }
  }
}

/** On one line and short; a template's message could contain terminal escapes. */
function messageOf(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  const plain = message.replace(/\p{Cc}+/gu, " ");
  return plain.length > 300 ? `${plain.slice(0, 297)}...` : plain;
}

function longestBlank(text: string): number {
  let longest = 0;
  for (const [blank] of text.matchAll(/\s+/g)) longest = Math.max(longest, blank.length);
  return longest;
}
