/**
 * Keeps the token ids that answers were generated with. A model may tokenize its own text differently than the
 * tokenizer would; if the next turn's prompt were tokenized anew, it would no longer match the cache.
 *
 * An answer is recognized in the rendered text of the next turn. It counts if the text before it is that of its prompt,
 * the text at that place is its own, and a control token or the end follows. Control tokens of an answer are used only
 * where the template has written the same ones, so that text in an answer never becomes a control token.
 */
import { atOnce, type Slices } from "./slices.ts";
import { type ControlToken, type Tokenizer, type Unmarked, withBos } from "./tokenizer.ts";
import { utf8Bytes } from "./tokenizer-bytes.ts";

/** Limits of the memory: an answer that is forgotten is tokenized like any text. 2^20 ids are 4 MB. */
const MOST_ANSWERS = 1024;
const MOST_IDS = 2 ** 20;

/** The end of a rendered prompt: its length, and a hash of its text and marks. */
interface Ending {
  readonly length: number;
  readonly code: number;
  /** The first ids of the answer that are part of the prompt. */
  readonly begun?: readonly number[];
}

interface Answer {
  readonly length: number;
  readonly ids: Uint32Array;
}

/** Text [start, end) of a rendered conversation and the ids that it was generated with. */
interface Known {
  readonly start: number;
  readonly end: number;
  readonly ids: ArrayLike<number>;
}

const BLANK = 0x20;

export class AnswerIds {
  readonly #tokenizer: Tokenizer;
  /** By the hash of the prompt, in order of use, the most recent last. */
  readonly #answers = new Map<number, Answer>();
  #held = 0;
  /** For the prompts that `encode` returned. */
  readonly #endings = new WeakMap<readonly number[], Ending>();

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** The ids of a rendered conversation, with bos. `remember` accepts an answer to exactly this array. */
  encode(rendered: Unmarked): number[] {
    return atOnce(this.slices(rendered));
  }

  /** `encode` that pauses between slices. */
  *slices(rendered: Unmarked): Slices<number[]> {
    const { text, literals } = rendered;
    const endings = yield* this.#endingsOf(rendered);
    let ids: number[] = [];
    let from = 0;
    let literal = 0;
    const tokenizer = this.#tokenizer;
    function* cut(to: number): Slices<void> {
      const inside: number[] = [];
      for (; literals[literal] < to; literal++)
        if (literals[literal] >= from) inside.push(literals[literal] - from);
      const found = yield* tokenizer.slices(text.slice(from, to), { special: true, literals: inside });
      if (ids.length === 0) ids = found;
      else add(found, ids);
    }
    for (const known of this.#find(rendered, endings)) {
      yield* cut(known.start);
      add(known.ids, ids);
      from = known.end;
    }
    yield* cut(text.length);
    const prompt = withBos(tokenizer, ids);
    this.#endings.set(prompt, endings[endings.length - 1]);
    return prompt;
  }

  /** Registers a prompt that `encode` has returned, and the ids of a text that its answer begins with. */
  *begin(prompt: readonly number[], text: string): Slices<number[]> {
    const begun = yield* this.#tokenizer.slices(text);
    const ids = prompt.concat(begun);
    const ending = this.#endings.get(prompt);
    if (ending) this.#endings.set(ids, { ...ending, begun });
    return ids;
  }

  /** Remembers that `ids` were generated after `prompt`. Does nothing for a prompt that `encode` has not returned. */
  remember(prompt: readonly number[], ids: readonly number[]): void {
    const ending = this.#endings.get(prompt);
    if (ending) this.#keep(ending, [...(ending.begun ?? []), ...ids]);
  }

  /** Remembers that `ids` are a whole conversation, as in a saved cache. */
  restore(ids: readonly number[]): void {
    this.#keep({ length: 0, code: 0 }, ids);
  }

  #keep({ length, code }: Ending, ids: readonly number[]): void {
    this.#forget(code);
    if (ids.length === 0 || ids.length > MOST_IDS) return;
    this.#answers.set(code, { length, ids: Uint32Array.from(ids) });
    this.#held += ids.length;
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= MOST_ANSWERS && this.#held <= MOST_IDS) break;
      this.#forget(oldest);
    }
  }

  #forget(code: number): void {
    this.#held -= this.#answers.get(code)?.ids.length ?? 0;
    this.#answers.delete(code);
  }

  /** The hashes of the text's beginnings that are as long as a known prompt, and of the whole text, shortest first. */
  *#endingsOf({ text, literals }: Unmarked): Slices<Ending[]> {
    const lengths = new Set([0, text.length]);
    for (const { length } of this.#answers.values()) if (length < text.length) lengths.add(length);
    const endings: Ending[] = [];
    let [low, high, at, literal] = [0, 0, 0, 0];
    const mix = (unit: number) => {
      low = Math.imul(low ^ unit, 0x01000193) + 1;
      high = Math.imul(high ^ unit, 0x85ebca6b) ^ (high >>> 13);
    };
    for (const length of [...lengths].sort((a, b) => a - b)) {
      for (; at < length; at++) {
        if (literals[literal] === at) {
          literal++;
          mix(MARK);
        }
        mix(text.charCodeAt(at));
        if ((at & 0xffff) === 0xffff) yield;
      }
      endings.push({ length, code: (high >>> 11) * 2 ** 32 + (low >>> 0) });
    }
    return endings;
  }

  #find(rendered: Unmarked, endings: readonly Ending[]): Known[] {
    const found: Known[] = [];
    let controls: ControlToken[] | null = null;
    let from = 0;
    for (const { length, code } of endings) {
      const answer = this.#answers.get(code);
      if (!answer || answer.length !== length || length < from) continue;
      controls ??= this.#tokenizer.controls(rendered.text, rendered.literals);
      const known = this.#follow(rendered.text, length, answer.ids, controls);
      if (!known) continue;
      found.push(known);
      from = known.end;
      // It was used, so it is forgotten last.
      this.#answers.delete(code);
      this.#answers.set(code, answer);
    }
    return found;
  }

  /** The end of the text from `start` that `ids` spell, up to a control token that is not among them, or the end. */
  #follow(text: string, start: number, ids: Uint32Array, controls: readonly ControlToken[]): Known | null {
    const tokenizer = this.#tokenizer;
    let next = controls.findIndex((control) => control.start >= start);
    if (next < 0) next = controls.length;
    let at = start;
    let i = 0;
    // A bos that the template does not write.
    if (start === 0 && tokenizer.addBos && ids[0] === tokenizer.bosId && controls[0]?.id !== ids[0]) i = 1;
    let known: Known | null = null;
    for (;;) {
      const end = controls[next]?.start ?? text.length;
      const wanted = utf8Bytes(text.slice(at, end));
      let done = 0;
      for (; i < ids.length && !tokenizer.controlIds.has(ids[i]) && done < wanted.length; i++) {
        let bytes = tokenizer.bytes(ids[i]);
        if (done === 0 && wanted[0] !== BLANK && this.#dropsSpace(ids[i])) bytes = bytes.subarray(1);
        if (!bytes.every((byte, k) => byte === wanted[done + k])) return known;
        done += bytes.length;
      }
      if (done < wanted.length) return known;
      if (i > 0) known = { start, end, ids: ids.subarray(0, i) };
      if (next === controls.length || controls[next].id !== ids[i]) return known;
      at = controls[next].end;
      next++;
      i++;
      known = { start, end: at, ids: ids.subarray(0, i) };
    }
  }

  /** Whether the token begins with a space that is dropped at the start of a text, as SentencePiece's do. */
  #dropsSpace(id: number): boolean {
    const [first] = this.#tokenizer.bytes(id);
    return first === BLANK && !this.#tokenizer.decode([id]).startsWith(" ");
  }
}

/** Appends ids. `push(...more)` would be limited by the number of arguments. */
function add(more: ArrayLike<number>, ids: number[]): void {
  for (let i = 0; i < more.length; i++) ids.push(more[i]);
}

/** A number that is no UTF-16 unit. */
const MARK = 0x10000;
