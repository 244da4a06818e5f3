/**
 * Tokens that are found in the raw text before any merging: control tokens (if the caller allows them) and tokens that
 * the publisher added to the vocabulary. At each position the longest known text wins. It is found by one walk down a
 * prefix tree, so the cost of a text does not depend on whether a vocabulary has six such tokens, six thousand, or five
 * hundred with the same beginning.
 */
import { FormatError } from "./errors.ts";
import { LITERAL, type Unmarked } from "./tokenizer.ts";

/** A token by its text. The flags are tokenizer.json's lstrip, rstrip and single_word. */
export interface FixedText {
  readonly id: number;
  readonly text: string;
  /** Whitespace on that side belongs to the token. */
  readonly stripBefore?: boolean;
  readonly stripAfter?: boolean;
  /** It matches only if no letter, digit or _ is next to it. */
  readonly isWord?: boolean;
}

/** A part of a text: a token at [start, end), or text to be merged. */
export type Section = string | { readonly id: number; readonly start: number; readonly end: number };

/** UTF-16 units of the longest fixed text; real ones have about forty. It bounds the walk at a position. */
const LONGEST = 512;

/** A node of the tree: `label` leads to it from its parent. Nodes with a single child are joined with it. */
interface Beginning {
  label: string;
  fixed: FixedText | undefined;
  /** By the first unit of their labels. */
  longer: Map<number, Beginning>;
}

export class FixedTexts {
  readonly #root: Beginning = { label: "", fixed: undefined, longer: new Map() };
  /** 1 if a text may start with that unit: testing every character has to be cheap. */
  readonly #starts = new Uint8Array(65536);

  /** For equal texts the first counts. Throws FormatError at `place` for one that is too long. */
  constructor(texts: Iterable<FixedText>, place: string) {
    for (const fixed of texts) {
      const { text, id } = fixed;
      if (text === "") continue;
      if (text.length > LONGEST) {
        throw new FormatError(
          `${place}[${id}]`,
          `a control token of ${text.length} characters`,
          `1 to ${LONGEST}`,
        );
      }
      this.#starts[text.charCodeAt(0)] = 1;
      this.#add(fixed);
    }
  }

  #add(fixed: FixedText): void {
    const { text } = fixed;
    let node = this.#root;
    for (let at = 0; at < text.length; at += node.label.length) {
      const next = node.longer.get(text.charCodeAt(at));
      if (!next) {
        const leaf = { label: text.slice(at), fixed, longer: new Map() };
        node.longer.set(text.charCodeAt(at), leaf);
        return;
      }
      const shared = sharedLength(next.label, text, at);
      if (shared < next.label.length) {
        const rest = { ...next, label: next.label.slice(shared) };
        next.label = next.label.slice(0, shared);
        next.fixed = undefined;
        next.longer = new Map([[rest.label.charCodeAt(0), rest]]);
      }
      node = next;
    }
    node.fixed ??= fixed;
  }

  /** Whether one of these texts may start with this unit: a fast test for every character. */
  mayStart(unit: number): boolean {
    return this.#starts[unit] === 1;
  }

  longestAt(text: string, from: number): FixedText | undefined {
    let found: FixedText | undefined;
    let node = this.#root.longer.get(text.charCodeAt(from));
    for (let at = from; node && text.startsWith(node.label, at); ) {
      found = node.fixed ?? found;
      at += node.label.length;
      node = at < text.length ? node.longer.get(text.charCodeAt(at)) : undefined;
    }
    return found;
  }

  /** Whether the rest of `text` from here is one of these texts, or the beginning of one. */
  isBeginning(text: string, from: number): boolean {
    if (text.length - from > LONGEST) return false;
    let node = this.#root;
    for (let at = from; at < text.length; at += node.label.length) {
      const next = node.longer.get(text.charCodeAt(at));
      if (!next || sharedLength(next.label, text, at) < Math.min(next.label.length, text.length - at))
        return false;
      node = next;
    }
    return true;
  }
}

/**
 * Which texts count: `all` of them, but at the positions of `literals` only `plain`, those that are not control tokens.
 */
export interface Counting {
  readonly all: FixedTexts;
  readonly plain: FixedTexts;
}

/** The parts of a text, in order. */
export function* split({ text, literals }: Unmarked, { all, plain }: Counting): Iterable<Section> {
  let from = 0;
  let literal = 0;
  for (let at = 0; at < text.length; ) {
    while (literals[literal] < at) literal++;
    const texts = literals[literal] === at ? plain : all;
    const found = texts.mayStart(text.charCodeAt(at)) ? texts.longestAt(text, at) : undefined;
    const end = at + (found?.text.length ?? 1);
    if (found && !(found.isWord && isInsideWord(text, at, end))) {
      const before = found.stripBefore ? blanksBefore(text, at, from) : at;
      if (before > from) yield text.slice(from, before);
      yield { id: found.id, start: at, end };
      // As in the Rust library: tokens of whitespace are also found in the whitespace that belongs to this one.
      from = found.stripAfter ? blanksAfter(text, end) : end;
    }
    at = end;
  }
  if (from < text.length) yield text.slice(from);
}

/**
 * Puts LITERAL before every place where one of `controls` starts, before an end that could be the beginning of one (the
 * template's next text might complete it), and before LITERAL itself. All other text is unchanged, including the text
 * of tokens that are not control tokens: templates see what they expect. `except`: controls that are let through.
 */
export function protect(text: string, controls: FixedTexts, except?: ReadonlySet<string>): string {
  const mark = LITERAL.charCodeAt(0);
  let out = "";
  let from = 0;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if (unit !== mark) {
      if (!controls.mayStart(unit)) continue;
      const found = controls.longestAt(text, at);
      if (found ? except?.has(found.text) : !controls.isBeginning(text, at)) continue;
    }
    out += text.slice(from, at) + LITERAL;
    from = at;
  }
  return out + text.slice(from);
}

/** How many units of `label` match `text` at `at`. */
function sharedLength(label: string, text: string, at: number): number {
  let length = 0;
  while (length < label.length && label[length] === text[at + length]) length++;
  return length;
}

/** The start of the whitespace that ends at `end`, not before `from`. */
function blanksBefore(text: string, end: number, from: number): number {
  while (end > from && BLANK.test(text[end - 1])) end--;
  return end;
}

function blanksAfter(text: string, at: number): number {
  while (at < text.length && BLANK.test(text[at])) at++;
  return at;
}

/** The Rust library's \s and \w: Unicode's, unlike JavaScript's. */
const BLANK = /\p{White_Space}/u;
const WORD = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";
const ENDS_WITH_WORD = new RegExp(`${WORD}$`, "u");
const STARTS_WITH_WORD = new RegExp(`^${WORD}`, "u");

/** Whether a letter, digit or _ is next to text [start, end) on either side. */
function isInsideWord(text: string, start: number, end: number): boolean {
  // Two units contain a whole character.
  return (
    ENDS_WITH_WORD.test(text.slice(Math.max(0, start - 2), start)) ||
    STARTS_WITH_WORD.test(text.slice(end, end + 2))
  );
}

/**
 * Texts that end a turn or an answer, in vocabularies that have them as control or added tokens. A checkpoint names one
 * eos; chat models end their turns with another, which files often leave out. Not "</s>": where it ends a text it is
 * the eos, elsewhere (Gemma) it is an HTML tag.
 */
const END_TEXTS: ReadonlySet<string> = new Set([
  "<|eot_id|>",
  "<|eom_id|>",
  "<|im_end|>",
  "<|end|>",
  // gpt-oss: the end of an answer, and of a call.
  "<|return|>",
  "<|call|>",
  "<|endoftext|>",
  "<|end_of_text|>",
  "<end_of_turn>",
  "<turn|>",
  // With these Gemma 4 and FunctionGemma hand over to the tool.
  "<|tool_response>",
  "<start_function_response>",
  "<eos>",
  "<EOT>",
  "<end_of_utterance>",
  "<｜end▁of▁sentence｜>",
]);

export function isEndText(text: string): boolean {
  return END_TEXTS.has(text);
}

/**
 * The ids that end a generation, among the tokens with such texts. In Harmony's vocabulary (gpt-oss) "<|end|>" ends
 * only one message of an answer.
 */
export function endingIds(ends: Iterable<FixedText>): number[] {
  const all = [...ends];
  const isHarmony =
    all.some(({ text }) => text === "<|return|>") && all.some(({ text }) => text === "<|call|>");
  return all.filter(({ text }) => !(isHarmony && text === "<|end|>")).map(({ id }) => id);
}

/**
 * Whether an added token that is not declared a control token acts as one: <|tool_call>, <channel|>, <|fim_pad|>. Such
 * text from a user must not become the token. Plain tags (<think>, <h1>) and runs of blanks remain tokens of text, as
 * published.
 */
export function looksLikeControl(text: string): boolean {
  return isEndText(text) || /^<[|｜].+>$/su.test(text) || /^<.+[|｜]>$/su.test(text);
}
