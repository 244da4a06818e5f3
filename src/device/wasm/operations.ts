/**
 * Translates a graph's operations into the interpreter's records: one writer for each operation, found by its name.
 * abi.js defines the contents of a record.
 */
import type { Activation, Cache, Graph, Op, Value, Weight } from "../contract.ts";
import { inputsOf, outputOf } from "../facts.ts";
import { turnedPairs } from "../rope-angles.ts";
import { ACTIVATIONS } from "./abi.js";
import { kvFormatNumber } from "./kv-layout.ts";
import { Meetings, type Region } from "./meetings.ts";
import { needsQuantizedInput, TYPE_IDS } from "./packing.ts";
import { type Layout, type Placed, poolBytes } from "./program.ts";
import { type Fields, type Kind, RecordWriter } from "./records.ts";

/** Consecutive records of one memory, and the values copied into that memory before them. */
export interface Stretch {
  readonly shard: number;
  /** The number of its first record in its memory, and among all. */
  readonly first: number;
  readonly from: number;
  readonly count: number;
  readonly copies: readonly Copy[];
}

/** Rows of a value, [tokens or outputs, cols] f32, copied from one memory's arena to another's. */
interface Copy {
  readonly from: number;
  readonly fromAt: number;
  readonly toAt: number;
  readonly rows: Value["rows"];
  readonly rowBytes: number;
}

export interface Program {
  readonly stretches: readonly Stretch[];
  /** Records of all memories. */
  readonly count: number;
  /** Caches in the order of their appendKv, and the number of the record after it. */
  readonly appends: readonly { readonly cache: Cache; readonly to: number }[];
}

/**
 * Tokens of a run from which gatedDelta is computed in chunks: 24 take 0.83 of their time as single tokens, 64 0.73
 * (two threads on an EPYC, 2026-11-28, bench/delta.js).
 */
const LEAST_CHUNKED = 24;

/** Writes the records of each shard into `words` of its memory. */
export function writeProgram(graph: Graph, placed: Placed, words: readonly Uint32Array[]): Program {
  const { layouts, segments } = placed;
  const programs = layouts.map((layout, i) => new ProgramWriter(graph, layout, words[i]));
  const appends: { cache: Cache; to: number }[] = [];
  const stretches: Stretch[] = [];
  let from = 0;
  for (const { shard, ops, crossings } of segments) {
    const program = programs[shard];
    const first = program.count;
    for (const op of ops) {
      (WRITERS[op.op] as (op: Op, to: ProgramWriter) => void)(op, program);
      if (op.op === "appendKv") appends.push({ cache: op.cache, to: from + program.count - first });
    }
    const copies = crossings.map(({ value, from: maker }) => ({
      from: maker,
      fromAt: programs[maker].value(value),
      toAt: program.value(value),
      rows: value.rows,
      rowBytes: value.cols * 4,
    }));
    const count = program.count - first;
    stretches.push({ shard, first, from, count, copies });
    from += count;
  }
  return { stretches, count: from, appends };
}

/** The kernels' number of an activation. */
const activationNumber = (activation: Activation) => ACTIVATIONS.indexOf(activation);

const WRITERS: { readonly [K in Op["op"]]: (op: Extract<Op, { op: K }>, to: ProgramWriter) => void } = {
  embed(op, to) {
    const { table, scale } = op;
    const { type: typeName, rows: tableRows, cols } = table;
    const weightType = TYPE_IDS[typeName];
    const { ids } = to.layout;
    const out = to.value(op.out);
    to.add("embed", op, { out, table: to.weight(table), weightType, tableRows, cols, scale, ids });
  },
  rmsNorm(op, to) {
    const { groups, epsilon } = op;
    const [out, x, weight] = [to.value(op.out), to.value(op.x), to.weight(op.weight)];
    to.add("rmsNorm", op, { out, x, weight, groups, size: op.x.cols / groups, epsilon });
  },
  matmul(op, to) {
    const { weight } = op;
    const { quantized, work, workBytes } = to.layout;
    const reads = to.quantize(op.x, weight);
    to.add(
      "matmul",
      op,
      {
        ...{ out: to.value(op.out), x: to.value(op.x), quantized, weight: to.weight(weight) },
        ...{ weightType: TYPE_IDS[weight.type], weightRows: weight.rows, cols: weight.cols },
        ...{ bias: to.weight(op.bias), work, workBytes },
      },
      { reads },
    );
  },
  conv(op, to) {
    const { kernel } = op;
    const { states, work, workBytes } = to.layout;
    to.add("conv", op, {
      ...{ out: to.value(op.out), x: to.value(op.x), weight: to.weight(op.weight) },
      ...{ states: states[op.state.id], channels: op.x.cols, kernel },
      ...{ silu: op.activation === "silu" ? 1 : 0, work, workBytes },
    });
  },
  gatedDelta(op, to) {
    const { keyHeads, valueHeads, keyDim, epsilon } = op;
    const { states, work, workBytes } = to.layout;
    to.add("gatedDelta", op, {
      ...{ out: to.value(op.out), x: to.value(op.x), a: to.value(op.a), b: to.value(op.b) },
      ...{ rates: to.weight(op.rates), bias: to.weight(op.bias), states: states[op.state.id] },
      ...{ keyHeads, valueHeads, keyDim, valueDim: op.out.cols / valueHeads, tiled: op.tiled ? 1 : 0 },
      ...{ epsilon, least: LEAST_CHUNKED, work, workBytes },
    });
  },
  rope(op, to) {
    const { heads, rope } = op;
    const angles = to.layout.angles[rope.id];
    const headDim = op.x.cols / heads;
    const [out, x] = [to.value(op.out), to.value(op.x)];
    to.add("rope", op, { out, x, angles, heads, headDim, pairs: rope.frequencies.length });
  },
  takeTurned(op, to) {
    const { x, heads: vectors, rope, weight, out } = op;
    to.add("takeTurned", op, {
      ...{ out: to.value(out), x: to.value(x), weight: to.weight(weight), vectors },
      ...{ headDim: x.cols / vectors, pairs: rope.frequencies.length, turning: turnedPairs(rope)! },
    });
  },
  appendKv(op, to) {
    const { kvHeads, headDim, turned, pool, codec } = op.cache;
    const { work, workBytes, packs } = to.layout;
    const { unpacked, packed } = to.pages(op.cache);
    to.add(
      "appendKv",
      op,
      {
        ...{ cache: unpacked.at, keys: to.value(op.keys), values: to.value(op.values), kvHeads, headDim },
        ...{ turned, tables: unpacked.tables, format: kvFormatNumber(codec), work, workBytes },
        ...{ packed: packed.at, packedTables: packed.tables, packs, window: pool.window ?? 0 },
      },
      { writes: [to.cache(op.cache)] },
    );
  },
  attend(op, to) {
    const { heads, scale, softcap, cache } = op;
    const { kvHeads, headDim, turned, pool, codec } = cache;
    const { partials, work, workBytes } = to.layout;
    const { unpacked, packed } = to.pages(cache);
    const common = {
      ...{ out: to.value(op.out), partials, heads, kvHeads, headDim, window: pool.window ?? 0 },
      ...{ format: kvFormatNumber(codec), sinks: to.weight(op.sinks) },
    };
    to.add(
      "attend",
      op,
      {
        ...{ ...common, cache: unpacked.at, queries: to.value(op.queries), tables: unpacked.tables },
        ...{ turned, work, workBytes, scale, softcap },
        ...{ packed: packed.at, packedTables: packed.tables, kept: codec.packed?.firstPages ?? 0 },
      },
      { reads: [to.cache(cache)], writes: [to.partials] },
    );
    to.add("attendMerge", op, common, { reads: [to.partials, to.region(op.out)] });
  },
  gate(op, to) {
    const { gate, up, limit } = op;
    const activation = activationNumber(op.activation);
    to.add("gate", op, {
      ...{ out: to.value(op.out), gate: to.value(gate), up: to.value(up) },
      ...{ cols: gate.cols, width: up.cols / gate.cols, activation, limit },
    });
  },
  lookUp(op, to) {
    const { out, table, scale: factor } = op;
    to.add("scale", op, { out: to.value(out), x: to.weight(table), cols: out.cols, factor });
  },
  scale(op, to) {
    const { out, x, factor } = op;
    to.add("scale", op, { out: to.value(out), x: to.value(x), cols: out.cols, factor });
  },
  slice(op, to) {
    const { groups: vectors, from, size } = op;
    const x = to.value(op.x) + from * 4;
    to.add("slice", op, { out: to.value(op.out), x, vectors, size, stride: op.x.cols / vectors });
  },
  route(op, to) {
    const { k } = op;
    to.add("route", op, {
      ...{ out: to.value(op.out), logits: to.value(op.logits), experts: op.logits.cols, k },
      ...{ normalise: op.normalise ? 1 : 0, weights: to.weight(op.weights) },
    });
  },
  expertMatmul(op, to) {
    const { x, picks, weight, experts } = op;
    const { quantized, pickOrder, pickStarts, work, workBytes } = to.layout;
    const reads = [...to.quantize(x, weight), ...to.groupPicks(picks, experts)];
    to.add(
      "expertMatmul",
      op,
      {
        ...{ out: to.value(op.out), x: to.value(x), quantized, weight: to.weight(weight) },
        ...{ weightType: TYPE_IDS[weight.type], expertRows: weight.rows / experts, cols: weight.cols },
        ...{ bias: to.weight(op.bias), experts, share: x.cols === weight.cols ? picks.cols / 2 : 1 },
        ...{ order: pickOrder, starts: pickStarts, work, workBytes },
      },
      { reads },
    );
  },
  combine(op, to) {
    const [out, x, picks] = [to.value(op.out), to.value(op.x), to.value(op.picks)];
    to.add("combine", op, { out, x, picks, cols: op.out.cols, k: op.picks.cols / 2 });
  },
  add(op, to) {
    const [out, a, b] = [to.value(op.out), to.value(op.a), to.value(op.b)];
    to.add("add", op, { out, a, b, cols: op.out.cols });
  },
  softcap(op, to) {
    const { cap } = op;
    to.add("softcap", op, { out: to.value(op.out), x: to.value(op.x), cols: op.out.cols, cap });
  },
  takeOutputs(op, to) {
    to.add("takeOutputs", op, { out: to.value(op.out), x: to.value(op.x), cols: op.out.cols });
  },
};

/** The regions that a record touches besides its operation's values. */
interface Touch {
  readonly reads?: readonly Region[];
  readonly writes?: readonly Region[];
}

class ProgramWriter {
  readonly #records: RecordWriter;
  readonly #meetings = new Meetings();
  /** The value, and the number of columns of its vectors, whose codes are in `quantized`. */
  #quantizedOf: { x: Value; cols: number } | null = null;
  #groupedOf: { picks: Value; experts: number } | null = null;
  readonly quantized: Region;
  /** Order and starts. */
  readonly groups: Region;
  readonly partials: Region;

  constructor(
    readonly graph: Graph,
    readonly layout: Layout,
    words: Uint32Array,
  ) {
    this.#records = new RecordWriter(words);
    this.quantized = { from: layout.quantized, to: layout.pickOrder };
    this.groups = { from: layout.pickOrder, to: layout.partials };
    this.partials = { from: layout.partials, to: layout.work };
  }

  get count(): number {
    return this.#records.count;
  }

  /** A record of an operation. Its rows are those of the value that it writes, or else reads. */
  add<K extends Kind>(kind: K, op: Op, fields: Fields<K>, { reads = [], writes = [] }: Touch = {}): void {
    const inputs = inputsOf(op);
    const out = outputOf(op);
    this.#meet(
      [...inputs.map((x) => this.region(x)), ...reads],
      [...(out ? [this.region(out)] : []), ...writes],
    );
    this.#records.add(kind, (out ?? inputs[0]).rows, fields);
  }

  /** Makes codes of x if products with the weight need them and they are not there; returns what the product reads. */
  quantize(x: Value, weight: Weight): readonly Region[] {
    const { type, cols } = weight;
    if (!needsQuantizedInput(type)) return [];
    if (this.#quantizedOf?.x !== x || this.#quantizedOf.cols !== cols) {
      this.#meet([this.region(x)], [this.quantized]);
      const { quantized } = this.layout;
      this.#records.add("quantize", x.rows, { quantized, x: this.value(x), cols, vectors: x.cols / cols });
      this.#quantizedOf = { x, cols };
    }
    return [this.quantized];
  }

  /** Sorts picks by expert unless they are sorted; returns what products with experts read of it. */
  groupPicks(picks: Value, experts: number): readonly Region[] {
    if (this.#groupedOf?.picks !== picks || this.#groupedOf.experts !== experts) {
      const { pickOrder: order, pickStarts: starts } = this.layout;
      this.#meet([this.region(picks)], [this.groups]);
      const fields = { order, starts, picks: this.value(picks), experts, k: picks.cols / 2 };
      this.#records.add("groupPicks", picks.rows, fields);
      this.#groupedOf = { picks, experts };
    }
    return [this.groups];
  }

  value(x: Value): number {
    return this.layout.arena + this.graph.offsets[x.id];
  }

  weight(weight: Weight | null): number {
    return weight ? this.layout.weights[weight.id] : 0;
  }

  region(x: Value): Region {
    const rows = x.rows === "tokens" ? this.graph.maxTokens : this.graph.maxOutputs;
    const from = this.value(x);
    return { from, to: from + rows * x.cols * 4 };
  }

  /** The addresses of a cache's unpacked and packed pages, each with its tables. */
  pages({ id, codec, pool }: Cache) {
    const { caches, tables } = this.layout;
    const own = { at: caches[id], tables: tables[pool.id] };
    if (!codec.packed) return { unpacked: own, packed: own };
    const recent = {
      at: caches[id] + poolBytes(this.graph.caches[id]),
      tables: tables[this.graph.recentPool!.id],
    };
    return { unpacked: recent, packed: own };
  }

  /** Stands for the whole of a cache. */
  cache({ id }: Cache): Region {
    return { from: this.layout.caches[id], to: this.layout.caches[id] + 1 };
  }

  #meet(reads: readonly Region[], writes: readonly Region[]): void {
    if (this.#meetings.isNeededBefore(reads, writes)) this.#records.meet();
  }
}
