/** The ring's size and rewinding, against a ring that is simulated slot by slot. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cacheCapacity, rewindPosition } from "../../src/cache/layers.ts";
import type { Cache } from "../../src/device/contract.ts";

describe("cacheCapacity", () => {
  it("is whole blocks: all of a full layer's context, a sliding layer's window and chunk", () => {
    expect(cacheCapacity(1, 1, null)).toBe(32);
    expect(cacheCapacity(32, 128, null)).toBe(32);
    expect(cacheCapacity(33, 1, null)).toBe(64);
    expect(cacheCapacity(131_072, 128, 512)).toBe(672);
    expect(cacheCapacity(131_072, 1, 1)).toBe(64);
    expect(cacheCapacity(40, 128, 512)).toBe(64);
  });
});

/** One layer whose slots remember which write filled them. */
class Ring {
  readonly #slots: ({ position: number; write: number } | undefined)[];
  /** By position of the present timeline: the write that made it. */
  #timeline: number[] = [];
  #writes = 0;

  constructor(
    readonly capacity: number,
    readonly window: number | null,
  ) {
    this.#slots = new Array(capacity);
  }

  holds(position: number): boolean {
    const slot = this.#slots[position % this.capacity];
    return slot?.position === position && slot.write === this.#timeline[position];
  }

  /** Writes a chunk and then looks at all that its queries see, as a device does. */
  step(tokens: number): boolean {
    const first = this.#timeline.length;
    for (let position = first; position < first + tokens; position++) {
      this.#timeline[position] = this.#writes++;
      this.#slots[position % this.capacity] = { position, write: this.#timeline[position] };
    }
    for (let query = first; query < first + tokens; query++) if (!this.sees(query, query + 1)) return false;
    return true;
  }

  /** Whether all that a query at `query` sees below `end` is there. */
  sees(query: number, end: number): boolean {
    const oldest = this.window === null ? 0 : Math.max(0, query - this.window + 1);
    for (let position = oldest; position < end; position++) if (!this.holds(position)) return false;
    return true;
  }

  rewind(position: number): void {
    this.#timeline.length = position;
  }
}

describe("rewindPosition", () => {
  const layer = (window: number | null, capacity: number) => ({ window, capacity }) as Cache;

  it("goes anywhere on full layers and as far as the ring remembers on sliding ones", () => {
    const ring = layer(32, 96);
    expect(rewindPosition([layer(null, 1024)], 1000, 3)).toBe(3);
    expect(rewindPosition([ring], 96, 40)).toBe(40);
    expect(rewindPosition([ring], 96, 0)).toBe(0);
    // Of 120 positions, 24 to 119 are left: a query at 55 sees 24 to 55.
    expect(rewindPosition([ring], 120, 55)).toBe(55);
    expect(rewindPosition([ring], 120, 54)).toBe(0);
    expect(rewindPosition([layer(null, 160), ring], 120, 54)).toBe(0);
    expect(rewindPosition([ring], 120, 120)).toBe(120);
    expect(rewindPosition([ring], 120, 500)).toBe(120);
  });

  it("never lets a query see what was overwritten, and never gives up what is still there", () => {
    const command = fc.record({ keep: fc.double({ min: 0, max: 1, noNaN: true }), write: fc.nat(140) });
    const property = fc.property(
      fc.integer({ min: 1, max: 70 }),
      fc.integer({ min: 1, max: 40 }),
      fc.array(command, { minLength: 1, maxLength: 12 }),
      (window, chunk, commands) => {
        const context = 400;
        const capacity = cacheCapacity(context, chunk, window);
        const rings = [new Ring(capacity, window), new Ring(cacheCapacity(context, chunk, null), null)];
        const caches = rings.map((ring) => layer(ring.window, ring.capacity));
        let length = 0;
        let written = 0;
        for (const { keep, write } of commands) {
          // As Session.sync does.
          const wanted = Math.floor(keep * length);
          const from = rewindPosition(caches, written, wanted);
          expect([0, wanted]).toContain(from);
          if (from === 0 && wanted > 0) expect(rings.every((ring) => ring.sees(wanted, wanted))).toBe(false);
          for (const ring of rings) ring.rewind(from);
          length = from;
          if (from === 0) written = 0;
          const end = Math.min(context, length + write);
          while (length < end) {
            const tokens = Math.min(chunk, end - length);
            for (const ring of rings) expect(ring.step(tokens)).toBe(true);
            length += tokens;
          }
          written = Math.max(written, length);
        }
      },
    );
    fc.assert(property, { numRuns: 500, seed: 1 });
  });
});
