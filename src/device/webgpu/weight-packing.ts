/**
 * The slabs of weights on their way from a file to the GPU, for one allocation: a few slots (pairs of buffers), so that
 * memory is bounded, and the threads that pack their contents. Reading, packing and writing of different slabs overlap; a
 * slab holds its slot for all three. Slots and threads are made for the first load and freed when no load is running.
 */
import { emptySlot, packSlab, type Slab, type SlabBuffers, type SlabCheck } from "./pack-slab.ts";
import type { Uploads } from "./weight-uploads.ts";

/** Threads that pack. Slots are of memory that they share; throws DeviceError if one fails or is gone. */
export interface PackThreads {
  pack(slot: SlabBuffers, slab: Slab): Promise<SlabCheck>;
  close(): void;
}

export interface PackThreadsMaker {
  readonly threads: number;
  start(): PackThreads;
}

/** Slots for slabs that are read or written while others are packed by threads. */
const MORE_SLOTS = 8;
/** Without threads: one slab is read while another is packed. */
const FEW_SLOTS = 2;
/**
 * Bytes of the file, and of the packed rows. With threads small ones, so that all slots fit the processor's caches: q4_0 in
 * system memory 3.76 GB/s, slabs of 8 MiB 2.73 and 3.33, of 1 MiB 2.89 (four threads, H200's machine, 2026-11-29).
 */
const THREADS_SLAB_BYTES = 2 * 1024 * 1024;
/** A GPU is waited for after each. */
const SLAB_BYTES = 8 * 1024 * 1024;
/** Matrices with fewer bytes in the file are packed on this thread: they are done before a thread has started. */
const LEAST_BYTES = 2 * 1024 * 1024;

interface Waiting {
  readonly order: number;
  take(slot: SlabBuffers): void;
}

export class WeightPacking {
  /** Maximum number of slabs. */
  readonly slots: number;
  readonly slabBytes: number;
  readonly #maker: PackThreadsMaker | null;
  #threads: PackThreads | null = null;
  #free: SlabBuffers[] = [];
  #made = 0;
  #loads = 0;
  #last = 0;
  readonly #waiting: Waiting[] = [];

  /** null: this thread packs. */
  constructor(
    maker: PackThreadsMaker | null,
    readonly uploads: Uploads,
  ) {
    this.#maker = maker;
    this.slots = maker ? maker.threads + MORE_SLOTS : FEW_SLOTS;
    this.slabBytes = maker ? THREADS_SLAB_BYTES : SLAB_BYTES;
  }

  /**
   * Runs a load, which acquires slots with the given function. A load that began earlier gets slots first, so that the
   * file is read in the order in which loads begin.
   */
  async during(load: (take: () => SlabBuffers | Promise<SlabBuffers>) => Promise<void>): Promise<void> {
    this.#loads++;
    const order = this.#last++;
    try {
      await load(() => this.#take(order));
    } finally {
      if (--this.#loads === 0) this.#end();
    }
  }

  give(slot: SlabBuffers): void {
    const first = this.#waiting.reduce((a, b) => (b.order < a.order ? b : a), this.#waiting[0]);
    if (!first) {
      this.#free.push(slot);
      return;
    }
    this.#waiting.splice(this.#waiting.indexOf(first), 1);
    first.take(slot);
  }

  /** matrixBytes: size of the matrix in the file. */
  async pack(slot: SlabBuffers, slab: Slab, matrixBytes: number): Promise<SlabCheck> {
    if (!this.#maker || matrixBytes < LEAST_BYTES) return packSlab(slot, slab);
    this.#threads ??= this.#maker.start();
    return this.#threads.pack(slot, slab);
  }

  /** Synchronous if a slot is free. */
  #take(order: number): SlabBuffers | Promise<SlabBuffers> {
    const free = this.#free.pop();
    if (free) return free;
    if (this.#made < this.slots) {
      this.#made++;
      return emptySlot(this.#maker !== null);
    }
    return new Promise((take) => this.#waiting.push({ order, take }));
  }

  #end(): void {
    this.#threads?.close();
    this.#threads = null;
    this.uploads.end();
    this.#free = [];
    this.#made = 0;
  }
}
