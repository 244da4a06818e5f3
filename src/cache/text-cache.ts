/**
 * What a running text holds of the cache: its pages and, in a graph with recurrent layers, the slots of its states. Both
 * begin at the end of the text's known prefix, and whatever is sent, taken over, dropped or released concerns both.
 */
import type { RunPacked, RunState } from "../device/contract.ts";
import type { Beginning, Beginnings } from "./beginnings.ts";
import type { BlockKey } from "./node.ts";
import { type PageCopy, TextPages } from "./text-pages.ts";
import { TextStates } from "./text-states.ts";

/** What other texts may have in common with this one: its first `most` tokens. */
export interface Prefix {
  readonly ids: readonly number[];
  readonly key: BlockKey;
  readonly most: number;
}

export class TextCache {
  readonly pages: TextPages;
  /** null: the graph has no recurrent states. */
  readonly states: TextStates | null;
  /** What the device copies before the first step; the caller then calls `pages.copied`. */
  readonly copies: readonly PageCopy[];

  /**
   * Takes the longest known prefix, if the caller knows it as `found`; null: none. keptStates: at how many positions along
   * the text states are kept.
   */
  constructor(beginnings: Beginnings, keptStates: number, prefix: Prefix | null, found?: Beginning) {
    this.pages = new TextPages(beginnings);
    this.copies = prefix ? this.pages.start(prefix.ids, prefix.key, prefix.most, found) : [];
    this.states = beginnings.states && new TextStates(beginnings, this.pages, keptStates);
  }

  /** Takes over what other texts have read since; true: there was more. No step of the text may be running. */
  extend({ ids, key, most }: Prefix): boolean {
    if (!this.pages.extend(ids, key, most)) return false;
    this.states?.jump();
    return true;
  }

  /** For a run of the tokens [from, to), the last `guesses` of which may become void. */
  send(from: number, to: number, guesses: number): { state: RunState | null; packed: RunPacked | null } {
    return { state: this.states?.advance(to) ?? null, packed: this.pages.pack(from, to - guesses) };
  }

  /** Drops what was sent beyond `position`. Returns where the text continues. */
  back(position: number): number {
    return this.states?.back(position) ?? position;
  }

  /** The first `tokens` ids have run: they become known to other texts. */
  wrote(ids: readonly number[], tokens: number): void {
    const { pages } = this;
    if (tokens <= pages.tokens) return;
    pages.wrote(ids.slice(pages.tokens, tokens));
    // The last token may have to be run again.
    pages.trim(tokens - 1);
  }

  release(): void {
    this.states?.release();
    this.pages.release();
  }
}
