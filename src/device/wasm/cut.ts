/**
 * Cuts a graph into shards, one for each memory, since a WebAssembly memory ends at 4 GiB. An operation runs in the
 * shard that has its matrix, cache or state, and the values that it reads are copied there from where they were made.
 * Vectors are small and copied to every shard that reads them. Pure; no addresses here.
 */
import type { Cache, Graph, Op, State, Value, Weight } from "../contract.ts";
import { inputsOf, neededBy, outputOf } from "../facts.ts";

/** The contents of one memory, by id. */
export interface Shard {
  readonly weights: ReadonlySet<number>;
  readonly caches: ReadonlySet<number>;
  readonly states: ReadonlySet<number>;
}

/** Consecutive operations in one shard. Before them `crossings` are copied from the shards that made them. */
interface Segment {
  readonly shard: number;
  readonly ops: readonly Op[];
  readonly crossings: readonly { readonly value: Value; readonly from: number }[];
}

export interface Cut {
  readonly shards: readonly Shard[];
  readonly segments: readonly Segment[];
  /** By value id: the shard where it was made. */
  readonly madeIn: readonly number[];
  /** The largest group that must be in one memory. */
  readonly largest: { readonly label: string; readonly bytes: number };
}

export interface Sizes {
  weight(weight: Weight): number;
  cache(cache: Cache): number;
  state(state: State): number;
}

/** Chooses the shard of each new group, in the order of the operations. */
export interface Placing {
  place(bytes: number): number;
  /** For an operation that may run anywhere, and for vectors that it needs. */
  placeBeside(bytes: number): number;
}

/** Fills a shard with up to `capacity` bytes before the next; a larger group gets one of its own. */
export function filling(capacity: number): Placing {
  let shard = 0;
  let used = 0;
  const place = (bytes: number) => {
    if (used > 0 && used + bytes > capacity) {
      shard++;
      used = 0;
    }
    used += bytes;
    return shard;
  };
  return { place, placeBeside: place };
}

/** Assigns N shards in turn, though one could hold all: most values cross, for tests. */
export function dealing(shards: number): Placing {
  let count = 0;
  return { place: () => count++ % shards, placeBeside: () => Math.max(0, count - 1) % shards };
}

/** Everything in one memory. */
export function uncut(graph: Graph): Cut {
  const ids = (list: readonly { id: number }[]) => new Set(list.map(({ id }) => id));
  const { ops } = graph;
  const shard = { weights: ids(graph.weights), caches: ids(graph.caches), states: ids(graph.states) };
  const segments = [{ shard: 0, ops, crossings: [] }];
  const madeIn = graph.values.map(() => 0);
  return { shards: [shard], segments, madeIn, largest: { label: "", bytes: 0 } };
}

/** A weight, cache or state. */
interface Part {
  readonly kind: "weights" | "caches" | "states";
  readonly id: number;
  readonly bytes: number;
  readonly label: string;
  /** It may be in several memories. */
  readonly isVector: boolean;
}

/** A group that must be in one memory because operations need it together, with the vectors of these operations. */
interface Unit {
  readonly parts: ReadonlySet<Part>;
  shard: number | null;
}

class Parts {
  readonly all: readonly Part[];
  readonly #of = new Map<Weight | Cache | State, Part>();

  constructor(graph: Graph, sizes: Sizes) {
    for (const weight of graph.weights) {
      const isVector = weight.role === "vector";
      this.#add(weight, { kind: "weights", bytes: sizes.weight(weight), label: weight.name, isVector });
    }
    for (const cache of graph.caches) {
      const label = `KV cache of layer ${cache.layer}`;
      this.#add(cache, { kind: "caches", bytes: sizes.cache(cache), label, isVector: false });
    }
    for (const state of graph.states) {
      const label = `states of layer ${state.layer}`;
      this.#add(state, { kind: "states", bytes: sizes.state(state), label, isVector: false });
    }
    this.all = [...this.#of.values()];
  }

  #add(of: Weight | Cache | State, part: Omit<Part, "id">): void {
    this.#of.set(of, { id: of.id, ...part });
  }

  neededBy(op: Op): Part[] {
    const { weights, cache, state } = neededBy(op);
    const needed = [...weights, ...(cache ? [cache] : []), ...(state ? [state] : [])];
    return needed.map((each) => this.#of.get(each)!);
  }
}

/** By each part that is not a vector. */
function unitsOf(ops: readonly Op[], parts: Parts): Map<Part, Unit> {
  const units = new Map<Part, Unit>();
  for (const op of ops) {
    const needed = parts.neededBy(op);
    const anchors = needed.filter(({ isVector }) => !isVector);
    const known = anchors.flatMap((anchor) => [...(units.get(anchor)?.parts ?? [])]);
    const unit: Unit = { parts: new Set([...anchors, ...known, ...needed]), shard: null };
    if (anchors.length === 0) continue;
    for (const part of unit.parts) if (!part.isVector) units.set(part, unit);
  }
  return units;
}

const bytesOf = (parts: Iterable<Part>) => [...parts].reduce((sum, { bytes }) => sum + bytes, 0);

export function cutGraph(graph: Graph, sizes: Sizes, placing: Placing): Cut {
  const parts = new Parts(graph, sizes);
  const units = unitsOf(graph.ops, parts);
  const shards = new Shards();
  for (const op of graph.ops) {
    const needed = parts.neededBy(op);
    const anchor = needed.find(({ isVector }) => !isVector);
    const unit = anchor && units.get(anchor)!;
    if (!unit) {
      const missing = needed.filter((part) => !shards.has(part, placing.placeBeside(0)));
      shards.run(op, placing.placeBeside(bytesOf(missing)), needed);
      continue;
    }
    if (unit.shard === null) {
      unit.shard = placing.place(bytesOf(unit.parts));
      for (const part of unit.parts) shards.add(part, unit.shard);
    }
    shards.run(op, unit.shard, needed);
  }
  // Parts that no operation needs get a place, too: they are loaded like the others.
  for (const part of parts.all) if (!shards.hasAnywhere(part)) shards.add(part, placing.place(part.bytes));
  let largest = { label: "", bytes: 0 };
  for (const { parts: together } of units.values()) {
    const bytes = bytesOf(together);
    if (bytes > largest.bytes) largest = { label: [...together][0].label, bytes };
  }
  return { ...shards.finish(graph), largest };
}

interface GrowingShard {
  readonly weights: Set<number>;
  readonly caches: Set<number>;
  readonly states: Set<number>;
}

interface GrowingSegment {
  readonly shard: number;
  readonly ops: Op[];
  readonly crossings: { value: Value; from: number }[];
}

class Shards {
  readonly #shards: GrowingShard[] = [];
  readonly #segments: GrowingSegment[] = [];
  readonly #madeIn: number[] = [];
  /** By value id: the shards that have it. */
  readonly #present: Set<number>[] = [];

  has({ kind, id }: Part, shard: number): boolean {
    return this.#at(shard)[kind].has(id);
  }

  hasAnywhere({ kind, id }: Part): boolean {
    return this.#shards.some((shard) => shard[kind].has(id));
  }

  add({ kind, id }: Part, shard: number): void {
    this.#at(shard)[kind].add(id);
  }

  run(op: Op, shard: number, needed: readonly Part[]): void {
    for (const part of needed) this.add(part, shard);
    if (this.#segments.at(-1)?.shard !== shard) this.#segments.push({ shard, ops: [], crossings: [] });
    const { ops, crossings } = this.#segments.at(-1)!;
    ops.push(op);
    for (const value of inputsOf(op)) {
      const present = this.#present[value.id];
      if (!present.has(shard)) crossings.push({ value, from: this.#madeIn[value.id] });
      present.add(shard);
    }
    const out = outputOf(op);
    if (!out) return;
    this.#madeIn[out.id] = shard;
    this.#present[out.id] = new Set([shard]);
  }

  finish({ values }: Graph): Omit<Cut, "largest"> {
    const madeIn = values.map(({ id }) => this.#madeIn[id] ?? 0);
    return { shards: this.#shards, segments: this.#segments, madeIn };
  }

  #at(shard: number): GrowingShard {
    while (this.#shards.length <= shard)
      this.#shards.push({ weights: new Set(), caches: new Set(), states: new Set() });
    return this.#shards[shard];
  }
}
