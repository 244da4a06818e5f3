/**
 * The recurrent states of one running text: a slot for each position that it may still return to, the slot that its
 * next run writes, and which earlier positions stay known. A run writes another slot than it reads, so going back,
 * sharing and keeping only change the users of slots; nothing is copied, and no token runs twice over the same states.
 */
import type { RunState } from "../device/contract.ts";
import type { Beginnings } from "./beginnings.ts";
import type { Page } from "./node.ts";
import type { PagePool } from "./pages.ts";
import type { TextPages } from "./text-pages.ts";

/** Slots reserved for each text: the one that its next run reads, and the one that it writes. */
export const LEAST_SLOTS = 2;
/** With one more, a text may run ahead of its known ids, or go back by a token. */
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
  /** Oldest first; the last is after everything that was sent. */
  #stands: Stand[];
  #next: Page | null = null;
  /** Known positions along the text that were not requested: some of them may be dropped. */
  readonly #kept: { readonly position: number; readonly slot: Page }[] = [];

  /** The text begins at the end of what its pages know. mostKept: maximum of positions along it. */
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

  /** Whether there is a slot for the next run. */
  get isReady(): boolean {
    return this.#next !== null;
  }

  /** Reserves a slot. mayForget: also one with a known position. false: there is none. */
  reserve(mayForget: boolean): boolean {
    if (mayForget || this.#slots.free > 0) this.#next ??= this.#slots.take();
    return this.isReady;
  }

  /** A run to `position` uses the reserved slot. */
  advance(position: number): RunState {
    const slot = this.#next;
    if (!slot) throw new Error("no slot was reserved");
    this.#next = null;
    const from = this.#stands[this.#stands.length - 1].slot?.index ?? null;
    this.#stands.push({ position, slot });
    return { from, to: slot.index };
  }

  /** Drops what was sent beyond `position`. Returns the last position up to there where the text can continue. */
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

  /** Its pages have taken over what others read: it continues from there. None of its steps may be running. */
  jump(): void {
    for (const stand of this.#stands.splice(0)) this.#drop(stand);
    this.#stands.push({ position: this.#pages.tokens, slot: this.#pages.takeState() });
  }

  /**
   * The states at a written position become known: for good if they were requested, or as one of a few along the text.
   */
  keep(position: number, isAsked: boolean): void {
    const slot = this.#stands.find((stand) => stand.position === position)?.slot;
    if (!slot || slot.block || !this.#know({ position, slot }) || isAsked) return;
    this.#kept.push({ position, slot });
    if (this.#kept.length > this.#mostKept) this.#thin();
  }

  /** Releases all slots. Positions where the text may continue, up to the end of what was written, stay known. */
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

  /** Forgets one of the positions along the text, so that gaps between them grow with the distance from the end. */
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
    // The slot may belong to another text by now.
    if (place?.block.states.get(place.tokens) === slot) this.#all.forgetState(slot);
  }
}
