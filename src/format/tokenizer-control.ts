/**
 * Tokens that are found in text as they stand, before any joining: control tokens (where the caller allows them) and
 * the tokens that a publisher added on top of the vocabulary. The one idea: at
 * each position the longest known text wins, found by one walk down a tree of their beginnings, so that a text costs
 * the same whether a vocabulary has six such tokens or six thousand, or five hundred that begin alike.
 */
import { FormatError } from "./errors.ts";
import { LITERAL, type Unmarked } from "./tokenizer.ts";

/** A token by its text. The flags are tokenizer.json's lstrip, rstrip and single_word. */
export interface FixedText {
  readonly id: number;
  readonly text: string;
  /** Blanks on that side belong to the token. */
  readonly stripBefore?: boolean;
  readonly stripAfter?: boolean;
  /** It counts only where no letter, digit or _ touches it. */
  readonly isWord?: boolean;
}

/** A part of a text: the token that stands at [start, end), or text to be joined. */
export type Section = string | { readonly id: number; readonly start: number; readonly end: number };

/** UTF-16 units of the longest fixed text; real ones have some forty. It bounds the walk at a position. */
const LONGEST = 512;

/** A node of the tree: `label` leads here from the node above. Nodes with one way on are joined into one. */
interface Beginning {
  label: string;
  fixed: FixedText | undefined;
  /** By the first unit of their labels. */
  longer: Map<number, Beginning>;
}

export class FixedTexts {
  readonly #root: Beginning = { label: "", fixed: undefined, longer: new Map() };
  /** 1 where a text may start with that unit: a look at every character has to be cheap. */
  readonly #starts = new Uint8Array(65536);

  /** Of equal texts the first counts. FormatError at `place` for one that is too long to be a mark. */
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

  /** Whether a text of these may start with this unit: quick to ask at every character. */
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

  /** Whether `text` from here to its end is the beginning of one of these, or one of them. */
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

/** Which texts count: `all` of them, but at the places of `literals` only those that are no control tokens, `plain`. */
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
      // As the Rust library: tokens of blanks are found also in the blanks that belong to this one.
      from = found.stripAfter ? blanksAfter(text, end) : end;
    }
    at = end;
  }
  if (from < text.length) yield text.slice(from);
}

/**
 * LITERAL in front of every place where one of `controls` starts, of an end that could be the beginning of one (what the
 * template writes next might complete it), and of LITERAL itself. All other text stays as it is, and so does the text of
 * tokens that are no control tokens: templates see what they expect. `except`: controls that are let through.
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

/** How many units of `label` stand in `text` at `at`. */
function sharedLength(label: string, text: string, at: number): number {
  let length = 0;
  while (length < label.length && label[length] === text[at + length]) length++;
  return length;
}

/** Where the blanks begin that end at `end`, not before `from`. */
function blanksBefore(text: string, end: number, from: number): number {
  while (end > from && BLANK.test(text[end - 1])) end--;
  return end;
}

function blanksAfter(text: string, at: number): number {
  while (at < text.length && BLANK.test(text[at])) at++;
  return at;
}

/** As the Rust library's \s and \w: Unicode's, which JavaScript's are not. */
const BLANK = /\p{White_Space}/u;
const WORD = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";
const ENDS_WITH_WORD = new RegExp(`${WORD}$`, "u");
const STARTS_WITH_WORD = new RegExp(`^${WORD}`, "u");

/** Whether a letter, digit or _ touches text [start, end) on either side. */
function isInsideWord(text: string, start: number, end: number): boolean {
  // Two units hold a whole character.
  return (
    ENDS_WITH_WORD.test(text.slice(Math.max(0, start - 2), start)) ||
    STARTS_WITH_WORD.test(text.slice(end, end + 2))
  );
}

/**
 * Texts that end a turn or an answer, in the vocabularies that have them as control or added tokens. A checkpoint
 * names one eos; chat models end their turns with another, which files often leave out. Not "</s>": where it ends a
 * text it is the eos, elsewhere (Gemma) it is an HTML tag.
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
  // Gemma 4 and FunctionGemma hand over to the tool with these.
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
 * Ids that end a generation, of those whose texts end something. In Harmony's vocabulary (gpt-oss) "<|end|>" ends one
 * message of an answer, and the next follows.
 */
export function endingIds(ends: Iterable<FixedText>): number[] {
  const all = [...ends];
  const isHarmony =
    all.some(({ text }) => text === "<|return|>") && all.some(({ text }) => text === "<|call|>");
  return all.filter(({ text }) => !(isHarmony && text === "<|end|>")).map(({ id }) => id);
}

/**
 * Whether an added token that is not declared a control token acts as one: <|tool_call>, <channel|>, <|fim_pad|>.
 * Such a text from a person must not turn into the token. Plain tags (<think>, <h1>) and runs of blanks stay what
 * the publisher made them, tokens of text.
 */
export function looksLikeControl(text: string): boolean {
  return isEndText(text) || /^<[|｜].+>$/su.test(text) || /^<.+[|｜]>$/su.test(text);
}
