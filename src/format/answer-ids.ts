/**
 * Answers keep the ids that they were generated with. A model may cut its own text in another way than the tokenizer
 * would; cut again, the next turn's prompt would leave what the cache holds. Owns the memory of recent answers and where
 * a later conversation holds them.
 *
 * The one idea: an answer is recognized in the rendered text, for that is what was generated from. It counts where the
 * text in front of it is that of its prompt, where the text at that place is its own, and where a control token or the
 * end follows. Control tokens of an answer are taken only where the template has written the same ones, so that no text
 * of an answer becomes one.
 */
import { atOnce, type Slices } from "./slices.ts";
import { type ControlToken, type Tokenizer, type Unmarked, withBos } from "./tokenizer.ts";
import { utf8Bytes } from "./tokenizer-bytes.ts";

/** Bounds of the memory: an answer that is forgotten is cut again as any text. 2^20 ids are 4 MB. */
const MOST_ANSWERS = 1024;
const MOST_IDS = 2 ** 20;

/** Where a rendered prompt ends: its length and a number that stands for its text and marks. */
interface Ending {
  readonly length: number;
  readonly code: number;
  /** Ids of the answer that the prompt holds already. */
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
  /** By the code of their prompt, the one that was used last at the end. */
  readonly #answers = new Map<number, Answer>();
  #held = 0;
  /** Of the prompts that `encode` gave. */
  readonly #endings = new WeakMap<readonly number[], Ending>();

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** The ids of a rendered conversation, with bos. An answer to exactly this list can be told to `remember`. */
  encode(rendered: Unmarked): number[] {
    return atOnce(this.slices(rendered));
  }

  /** `encode` with places to pause. */
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

  /** A prompt that `encode` has given, and the ids of a text that its answer begins with. */
  *begin(prompt: readonly number[], text: string): Slices<number[]> {
    const begun = yield* this.#tokenizer.slices(text);
    const ids = prompt.concat(begun);
    const ending = this.#endings.get(prompt);
    if (ending) this.#endings.set(ids, { ...ending, begun });
    return ids;
  }

  /** `ids` were generated after `prompt`. Nothing happens for a prompt that `encode` has not given. */
  remember(prompt: readonly number[], ids: readonly number[]): void {
    const ending = this.#endings.get(prompt);
    if (ending) this.#keep(ending, [...(ending.begun ?? []), ...ids]);
  }

  /** `ids` are a whole conversation, as a saved cache holds it. */
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

  /** The codes of the text's beginnings as long as the prompts of known answers, and of all of it, shortest first. */
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
      // Used: the last one to be forgotten.
      this.#answers.delete(code);
      this.#answers.set(code, answer);
    }
    return found;
  }

  /** How far the text from `start` on is what `ids` spell, up to a control token that is no part of them, or the end. */
  #follow(text: string, start: number, ids: Uint32Array, controls: readonly ControlToken[]): Known | null {
    const tokenizer = this.#tokenizer;
    let next = controls.findIndex((control) => control.start >= start);
    if (next < 0) next = controls.length;
    let at = start;
    let i = 0;
    // A bos that the template leaves to us.
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

  /** Whether the token begins with a space that is no part of the text when it comes first, as SentencePiece's do. */
  #dropsSpace(id: number): boolean {
    const [first] = this.#tokenizer.bytes(id);
    return first === BLANK && !this.#tokenizer.decode([id]).startsWith(" ");
  }
}

/** Not by `push(...more)`, whose number of arguments is limited. */
function add(more: ArrayLike<number>, ids: number[]): void {
  for (let i = 0; i < more.length; i++) ids.push(more[i]);
}

/** No UTF-16 unit. */
const MARK = 0x10000;
