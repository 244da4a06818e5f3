/** What a grammar is, before a thread compiles it. */
import type { Constraint } from "../../engine/tokens.ts";
import type { Slices } from "../../format/slices.ts";
import type { Mark } from "./marks.ts";
import type { Weight } from "./weight.ts";

/** Rules in XGrammar's notation from "root" on, or a structural tag of it. weight: of the rules; default: little. */
export type Grammar = { readonly weight?: Weight } & (
  | { readonly text: string; readonly tags?: undefined }
  | { readonly tags: Readonly<Record<string, unknown>>; readonly text?: undefined }
);

/** A constraint that holds memory until `close`. */
export interface OpenGrammar extends Constraint {
  close(): void;
}

/** A grammar that is made when it is needed: large ones take some 100 ms, so with pauses. */
export interface GrammarToMake {
  /** Reasoning is part of it; otherwise a model may think before it begins. */
  readonly isWhole?: boolean;
  make(mark: Mark): Slices<Grammar>;
}
