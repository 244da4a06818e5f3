/**
 * Where the reading of a prompt pauses in a model with recurrent states, so that states are kept there: a text can be
 * resumed only where they were. Every pause costs a separate step. Pure.
 */
import type { BlockKey } from "../cache/node.ts";
import { PAGE_SLOTS } from "../device/contract.ts";

/**
 * Templates write the answer's opening at the end of a prompt, but leave it out, or its thinking, when they write the
 * same turn again: Qwen 3.5's has seven tokens.
 */
const OPENING_TOKENS = 8;
/** Reading fewer tokens again costs no more than a pause. */
const LEAST_GAP = PAGE_SLOTS;

/**
 * For a prompt that is read from `from` on: the last page border before the answer's opening, where the conversation's
 * next prompt may diverge; and the end of the prefix `known` from earlier texts, where others may diverge, too.
 */
export function cutsOf({ from, known, prompt }: { from: number; known: number; prompt: number }): number[] {
  const border = (position: number) => Math.floor(position / PAGE_SLOTS) * PAGE_SLOTS;
  const end = border(prompt - OPENING_TOKENS);
  const parting = border(Math.min(known, end));
  const cuts: number[] = [];
  if (parting - from >= LEAST_GAP && end - parting >= LEAST_GAP) cuts.push(parting);
  if (end - from >= LEAST_GAP) cuts.push(end);
  return cuts;
}

interface Prompt {
  readonly key: BlockKey;
  readonly promptTokens: number;
  readonly mostReused: number;
}

/** Tokens of whole pages that a text can reuse from another one. */
export function sharedTokens(text: Prompt, other: Prompt): number {
  const blocks = Math.floor(Math.min(text.mostReused, other.promptTokens) / PAGE_SLOTS);
  let block = 0;
  while (block < blocks && text.key(block) === other.key(block)) block++;
  return block * PAGE_SLOTS;
}
