/**
 * Tokens that are found in text as they stand, before any joining: control tokens (where the caller allows them) and
 * the tokens that a publisher added on top of the vocabulary. Refuses to know pieces and joins. The one idea: at
 * each position the longest known text wins, found by one walk down a tree of their beginnings, so that a text costs
 * the same whether a vocabulary has six such tokens or six thousand, or five hundred that begin alike.
 */
import { FormatError } from "./errors.ts";
import { LITERAL } from "./tokenizer.ts";

/** A token by its text. The strips are tokenizer.json's: blanks on that side belong to the token. */
export interface FixedText {
  readonly id: number;
  readonly text: string;
  readonly stripBefore?: boolean;
  readonly stripAfter?: boolean;
}

/** What `split` reports: an id, or text [start, end) to be joined. */
export interface Sections {
  token(id: number): void;
  text(text: string): void;
}

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

  /** Hands over `text` piece by piece, in order. `marks`: LITERAL says that the next character starts no token. */
  split(text: string, marks: boolean, sections: Sections): void {
    const mark = LITERAL.charCodeAt(0);
    let pending = "";
    let from = 0;
    const flush = (end: number, trim = false) => {
      const part = pending + text.slice(from, end);
      const kept = trim ? part.trimEnd() : part;
      if (kept !== "") sections.text(kept);
      pending = "";
    };
    for (let at = 0; at < text.length; ) {
      const unit = text.charCodeAt(at);
      if (marks && unit === mark) {
        pending += text.slice(from, at);
        from = at + 1;
        at += 2;
        continue;
      }
      const found = this.#starts[unit] === 1 ? this.#longestAt(text, at) : undefined;
      if (!found) {
        at++;
        continue;
      }
      flush(at, found.stripBefore);
      sections.token(found.id);
      at += found.text.length;
      if (found.stripAfter) at = skipBlanks(text, at);
      from = at;
    }
    flush(text.length);
  }

  /** LITERAL in front of every position where a token could start, and of LITERAL itself. */
  protect(text: string): string {
    const mark = LITERAL.charCodeAt(0);
    let out = "";
    let from = 0;
    for (let at = 0; at < text.length; at++) {
      const unit = text.charCodeAt(at);
      if (unit !== mark && (this.#starts[unit] === 0 || !this.#longestAt(text, at))) continue;
      out += text.slice(from, at) + LITERAL;
      from = at;
    }
    return out + text.slice(from);
  }

  #longestAt(text: string, from: number): FixedText | undefined {
    let found: FixedText | undefined;
    let node = this.#root.longer.get(text.charCodeAt(from));
    for (let at = from; node && text.startsWith(node.label, at); ) {
      found = node.fixed ?? found;
      at += node.label.length;
      node = at < text.length ? node.longer.get(text.charCodeAt(at)) : undefined;
    }
    return found;
  }
}

/** How many units of `label` stand in `text` at `at`. */
function sharedLength(label: string, text: string, at: number): number {
  let length = 0;
  while (length < label.length && label[length] === text[at + length]) length++;
  return length;
}

function skipBlanks(text: string, at: number): number {
  while (at < text.length && /\s/.test(text[at])) at++;
  return at;
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
 * Whether an added token that is not declared a control token acts as one: <|tool_call>, <channel|>, <|fim_pad|>.
 * Such a text from a person must not turn into the token. Plain tags (<think>, <h1>) and runs of blanks stay what
 * the publisher made them, tokens of text.
 */
export function looksLikeControl(text: string): boolean {
  return isEndText(text) || /^<[|｜].+>$/su.test(text) || /^<.+[|｜]>$/su.test(text);
}
