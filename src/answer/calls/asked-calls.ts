/** What is asked of the calls in an answer: which tools, and what has to match. */
import type { GrammarToMake } from "../grammar/grammar.ts";
import type { CalledTool } from "./written-call.ts";

/** A tool whose calls may be held to its schema. */
export interface AskedTool extends CalledTool {
  /** For errors: "tools[0].function". */
  readonly place: string;
  /** Whether its arguments must match; undefined: not specified. */
  readonly isStrict: boolean | undefined;
}

/** "auto": the model decides; "required": a call of any tool; or the tool that has to be called. */
export type CallChoice = "auto" | "required" | AskedTool;

/** What a grammar of calls is made of. */
export interface AskedCalls {
  readonly tools: readonly AskedTool[];
  /** The answer is a call; otherwise it may be. */
  readonly isForced: boolean;
  /** At most one call. */
  readonly isSingle: boolean;
  /** What an answer without calls has to be, and then it may call one; null: anything. */
  readonly answer: GrammarToMake | null;
}
