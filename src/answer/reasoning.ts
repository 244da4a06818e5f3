/**
 * Separates an answer, while it streams, into reasoning and text, by the marks that models put around their reasoning.
 * The one idea: a mark counts once it is complete, and text that may still become one is held back, so that it does not
 * matter how the answer was divided into pieces.
 */
export interface StreamedPart {
  readonly kind: "text" | "reasoning";
  readonly text: string;
}

/** Takes an answer apart while it streams. Texts are not empty; neighbours in one list differ in kind. */
export interface PartStream {
  push(more: string): StreamedPart[];
  /** What was held back. */
  end(): StreamedPart[];
}

export interface Section {
  readonly open: string;
  readonly close: string;
  /** Follows `open` and is not part of the reasoning. */
  readonly label?: string;
  /**
   * Also recognised after the answer has begun: control tokens, which never occur in prose. Others count at the beginning only.
   */
  readonly anywhere?: boolean;
}

/** No mark contains another. */
export const SECTIONS: readonly Section[] = [
  // Qwen 3, DeepSeek R1 and its distillations, SmolLM 3, GLM.
  { open: "<think>", close: "</think>" },
  { open: "<seed:think>", close: "</seed:think>" },
  // Magistral.
  { open: "[THINK]", close: "[/THINK]" },
  // Gemma 4.
  { open: "<|channel>", close: "<channel|>", label: "thought\n", anywhere: true },
];

export class ReasoningStream implements PartStream {
  #inside: Section | null;
  #held = "";
  /** The answer has other characters than blanks. */
  #answered = false;
  /** Nothing of the present part has been given out: its first newlines are the template's, not the model's. */
  #fresh = true;
  #label = "";

  /** `opened`: the section that the prompt has opened; "begun": the prompt ends inside of the answer. */
  constructor(opened: Section | "begun" | null = null) {
    this.#inside = opened === "begun" ? null : opened;
    this.#answered = opened === "begun";
    this.#fresh = opened !== "begun";
  }

  push(more: string): StreamedPart[] {
    this.#held += more;
    const parts: StreamedPart[] = [];
    while (this.#inside ? this.#think(this.#inside, parts) : this.#say(parts));
    return parts;
  }

  /** An unclosed section is reasoning to its end. */
  end(): StreamedPart[] {
    const parts: StreamedPart[] = [];
    this.#give(this.#held.length, parts);
    return parts;
  }

  /** True: the section has ended and there may be more. */
  #think({ close }: Section, parts: StreamedPart[]): boolean {
    if (this.#label !== "") {
      if (this.#held.length < this.#label.length && this.#label.startsWith(this.#held)) return false;
      if (this.#held.startsWith(this.#label)) this.#held = this.#held.slice(this.#label.length);
      this.#label = "";
    }
    const at = this.#held.indexOf(close);
    if (at < 0) {
      this.#give(partialMark(this.#held, close), parts);
      return false;
    }
    this.#give(at, parts);
    this.#held = this.#held.slice(close.length);
    this.#inside = null;
    this.#fresh = true;
    return true;
  }

  /** True: a section has begun. */
  #say(parts: StreamedPart[]): boolean {
    const held = this.#held;
    const counts = (at: number, section: Section) =>
      at >= 0 && (section.anywhere || !(this.#answered || /\S/.test(held.slice(0, at))));
    const found = SECTIONS.map((section) => ({ section, at: held.indexOf(section.open) }))
      .filter(({ section, at }) => counts(at, section))
      .sort((a, b) => a.at - b.at);
    if (found.length === 0) {
      const partial = SECTIONS.map((section) => ({ section, at: partialMark(held, section.open) }));
      const safe = partial.filter(({ section, at }) => counts(at, section)).map(({ at }) => at);
      this.#give(Math.min(held.length, ...safe), parts);
      return false;
    }
    const [{ section, at }] = found;
    this.#give(at, parts);
    this.#held = this.#held.slice(section.open.length);
    this.#inside = section;
    this.#label = section.label ?? "";
    this.#fresh = true;
    return true;
  }

  /** Passes on the first `length` characters of what is held, as the present kind of part. */
  #give(length: number, parts: StreamedPart[]): void {
    let text = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    if (this.#fresh) text = text.replace(/^[\r\n]+/, "");
    if (text === "") return;
    this.#fresh = false;
    const kind = this.#inside ? "reasoning" : "text";
    if (kind === "text" && /\S/.test(text)) this.#answered = true;
    const last = parts.at(-1);
    if (last?.kind === kind) parts[parts.length - 1] = { kind, text: last.text + text };
    else parts.push({ kind, text });
  }
}

/** Where the end of `text` could be the beginning of `mark`; its length when it could not. */
export function partialMark(text: string, mark: string): number {
  for (let at = Math.max(0, text.length - mark.length + 1); at < text.length; at++)
    if (mark.startsWith(text.slice(at))) return at;
  return text.length;
}
