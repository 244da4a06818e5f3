/** text <-> tokens. */
export interface Tokenizer {
  readonly vocab: number;
  /** Ids that end a turn or a text (eos, eot, eom, <end_of_turn>, ...). */
  readonly endIds: ReadonlySet<number>;
  readonly bosId: number | null;
  /** Whether the checkpoint asks for a bos in front of raw text. */
  readonly addBos: boolean;
  /** Text to ids. `special`: text such as "<|end|>" becomes its control token (templates); default false. */
  encode(text: string, options?: { special?: boolean }): number[];
  /** Ids to text; control tokens are left out unless `special`. */
  decode(ids: readonly number[], options?: { special?: boolean }): string;
  /** Streams: push ids, get text that is whole UTF-8; `end` gives what is left (U+FFFD for a broken tail). */
  stream(options?: { special?: boolean }): { push(id: number): string; end(): string };
}
