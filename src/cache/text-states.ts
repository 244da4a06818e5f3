/**
 * The recurrent states of one text while it runs: the slot at each position that it may still go back to, the slot that its
 * next run writes, and which of the positions before it stay known.
 * One idea: a run writes another slot than it reads, so going back, sharing and keeping are a matter of who counts a slot as
 * used; nothing is copied, and no token runs twice over the same states.
 */
import type { RunState } from "../device/contract.ts";
import type { Beginnings } from "./beginnings.ts";
import type { Page } from "./node.ts";
import type { PagePool } from "./pages.ts";
import type { TextPages } from "./text-pages.ts";

/** Slots that each text is sure of: what its next run reads, and what that writes. */
export const LEAST_SLOTS = 2;
/** With one more a text may run ahead of what was chosen for it, or go back by a token. */
export const WORK_SLOTS = 3;

/** The states after `position` tokens. slot: null at 0. */
interface Stand {
  readonly position: number;
  readonly slot: Page | null;
}

export class TextStates {
  readonly #all: Beginnings;
  readonly #slots: PagePool;
  readonly #pages: TextPages;
  readonly #mostKept: number;
  /** Oldest first; the last is where the text stands after all that was sent. */
  #stands: Stand[];
  #next: Page | null = null;
  /** Positions on the way that are known, and that no one asked for: they may become fewer. */
  readonly #kept: { readonly position: number; readonly slot: Page }[] = [];

  /** The text begins at the end of what its pages know. mostKept: of positions on its way, at a time. */
  constructor(all: Beginnings, pages: TextPages, mostKept: number) {
    this.#all = all;
    this.#slots = all.states!;
    this.#pages = pages;
    this.#mostKept = mostKept;
    this.#stands = [{ position: pages.tokens, slot: pages.takeState() }];
  }

  /** Slots that the text uses. */
  get held(): number {
    return this.#stands.filter(({ slot }) => slot).length + (this.#next ? 1 : 0);
  }

  /** There is a slot for the next run. */
  get isReady(): boolean {
    return this.#next !== null;
  }

  /** Takes one. mayForget: also one that holds a known position. false: there is none. */
  reserve(mayForget: boolean): boolean {
    if (mayForget || this.#slots.free > 0) this.#next ??= this.#slots.take();
    return this.isReady;
  }

  /** A run goes to `position`, over the slot that was reserved. */
  advance(position: number): RunState {
    const slot = this.#next;
    if (!slot) throw new Error("no slot was reserved");
    this.#next = null;
    const from = this.#stands[this.#stands.length - 1].slot?.index ?? null;
    this.#stands.push({ position, slot });
    return { from, to: slot.index };
  }

  /** What was sent beyond `position` is void. Gives the last position up to there that the text can go on from. */
  back(position: number): number {
    const keep = this.#stands.filter((stand) => stand.position <= position);
    for (const { slot } of this.#stands.splice(keep.length)) if (slot) this.#slots.release(slot);
    const stand = this.#stands[this.#stands.length - 1];
    if (!stand) throw new Error(`no states at or before position ${position}`);
    return stand.position;
  }

  /** The text never goes back before `position`. */
  settle(position: number): void {
    while (this.#stands.length > 1 && this.#stands[1].position <= position) this.#drop(this.#stands.shift()!);
  }

  /** Its pages have taken over what others read: it goes on from there. Nothing of it is under way. */
  jump(): void {
    for (const stand of this.#stands.splice(0)) this.#drop(stand);
    this.#stands.push({ position: this.#pages.tokens, slot: this.#pages.takeState() });
  }

  /** The states at a position that was written become known: for good if they were asked for, or as one of few on the way. */
  keep(position: number, isAsked: boolean): void {
    const slot = this.#stands.find((stand) => stand.position === position)?.slot;
    if (!slot || slot.block || !this.#know({ position, slot }) || isAsked) return;
    this.#kept.push({ position, slot });
    if (this.#kept.length > this.#mostKept) this.#thin();
  }

  /** Gives all back. Where the text may be gone on from, up to the end of what was written, stays known. */
  release(): void {
    if (this.#next) this.#slots.release(this.#next);
    this.#next = null;
    for (const stand of this.#stands.splice(0)) {
      if (stand.position <= this.#pages.tokens) this.#know(stand);
      this.#drop(stand);
    }
  }

  #know({ position, slot }: Stand): boolean {
    const place = slot && this.#pages.place(position);
    if (!place) return false;
    this.#all.keepState(place.block, place.tokens, slot);
    return slot.block === place.block;
  }

  #drop({ slot }: Stand): void {
    if (slot) this.#slots.release(slot);
  }

  /** Forgets one of the positions on the way, so that gaps between them grow with the distance from the last one. */
  #thin(): void {
    const kept = this.#kept;
    const last = kept[kept.length - 1].position;
    let least = { at: 0, worth: Number.POSITIVE_INFINITY };
    for (let at = 0; at < kept.length - 1; at++) {
      const gap = kept[at + 1].position - (kept[at - 1]?.position ?? 0);
      const worth = gap / (last - kept[at].position);
      if (worth < least.worth) least = { at, worth };
    }
    const [{ position, slot }] = kept.splice(least.at, 1);
    const place = this.#pages.place(position);
    // The slot may be another text's by now.
    if (place?.block.states.get(place.tokens) === slot) this.#all.forgetState(slot);
  }
}
