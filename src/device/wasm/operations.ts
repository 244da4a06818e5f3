/**
 * A graph's operations as the interpreter's records: one writer an operation, found by its name. The order of a record's
 * arguments is that of its case in assembly/run.ts.
 */
import type { Activation, Cache, Graph, Op, Value, Weight } from "../contract.ts";
import { inputsOf, outputOf } from "../facts.ts";
import { kvFormatNumber } from "./kv-layout.ts";
import { Meetings, type Region } from "./meetings.ts";
import { needsQuantizedInput, TYPE_IDS } from "./packing.ts";
import { type Layout, type Placed, poolBytes } from "./program.ts";
import { type Argument, type Kind, RecordWriter } from "./records.ts";

/** Records of one memory that follow one another, and what is copied into that memory before them. */
export interface Stretch {
  readonly shard: number;
  /** The number of its first record in its memory, and among all. */
  readonly first: number;
  readonly from: number;
  readonly count: number;
  readonly copies: readonly Copy[];
}

/** Rows of a value, [tokens or outputs, cols] f32, from one memory's arena to another's. */
export interface Copy {
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

/** Numbers by which kernels know the activations. */
const ACTIVATIONS: Readonly<Record<Activation, number>> = { silu: 0, geluTanh: 1, sigmoid: 2, swigluOai: 3 };

const WRITERS: { readonly [K in Op["op"]]: (op: Extract<Op, { op: K }>, to: ProgramWriter) => void } = {
  embed(op, to) {
    const { table, scale, out } = op;
    to.add("embed", op, [
      ...[to.value(out), to.weight(table), TYPE_IDS[table.type], table.rows, table.cols],
      ...[{ f32: scale }, to.layout.ids],
    ]);
  },
  rmsNorm(op, to) {
    const { x, weight, groups, epsilon, out } = op;
    const size = x.cols / groups;
    to.add("rmsNorm", op, [to.value(out), to.value(x), to.weight(weight), groups, size, { f32: epsilon }]);
  },
  matmul(op, to) {
    const { x, weight, bias, out } = op;
    const { type, rows, cols } = weight;
    const reads = to.quantize(x, weight);
    to.add(
      "matmul",
      op,
      [
        ...[to.value(out), to.value(x), to.layout.quantized, to.weight(weight), TYPE_IDS[type], rows, cols],
        ...[to.weight(bias), to.layout.work, to.layout.workBytes],
      ],
      { reads },
    );
  },
  conv(op, to) {
    const { x, weight, kernel, activation, state, out } = op;
    const { states, work, workBytes } = to.layout;
    const isSilu = activation === "silu" ? 1 : 0;
    to.add("conv", op, [
      ...[to.value(out), to.value(x), to.weight(weight), states[state.id], x.cols, kernel, isSilu],
      ...[work, workBytes],
    ]);
  },
  gatedDelta(op, to) {
    const { x, a, b, rates, bias, keyHeads, valueHeads, keyDim, tiled, epsilon, state, out } = op;
    const { states, work, workBytes } = to.layout;
    to.add("gatedDelta", op, [
      ...[to.value(out), to.value(x), to.value(a), to.value(b), to.weight(rates), to.weight(bias)],
      ...[states[state.id], keyHeads, valueHeads, keyDim, out.cols / valueHeads, tiled ? 1 : 0],
      ...[{ f32: epsilon }, work, workBytes],
    ]);
  },
  rope(op, to) {
    const { x, heads, rope, out } = op;
    const turns = to.layout.turns[rope.id];
    to.add("rope", op, [to.value(out), to.value(x), turns, heads, x.cols / heads, rope.frequencies.length]);
  },
  appendKv(op, to) {
    const { kvHeads, headDim, pool, codec } = op.cache;
    const { work, workBytes, packs } = to.layout;
    const { vectors, packed } = to.pages(op.cache);
    to.add(
      "appendKv",
      op,
      [
        ...[vectors.at, to.value(op.keys), to.value(op.values), kvHeads, headDim],
        ...[vectors.tables, kvFormatNumber(codec), work, workBytes],
        ...[packed.at, packed.tables, packs, pool.window ?? 0],
      ],
      { writes: [to.cache(op.cache)] },
    );
  },
  attend(op, to) {
    const { queries, heads, out, scale, softcap, sinks, cache } = op;
    const { kvHeads, headDim, pool, codec } = cache;
    const window = pool.window ?? 0;
    const format = kvFormatNumber(codec);
    const { partials, work, workBytes } = to.layout;
    const { vectors, packed } = to.pages(cache);
    to.add(
      "attend",
      op,
      [
        ...[vectors.at, to.value(queries), to.value(out), partials, work, workBytes],
        ...[heads, kvHeads, headDim, vectors.tables, window, { f32: scale }, { f32: softcap }],
        ...[format, to.weight(sinks), packed.at, packed.tables, codec.packed?.first ?? 0],
      ],
      { reads: [to.cache(cache)], writes: [to.partials] },
    );
    to.add(
      "attendMerge",
      op,
      [partials, to.value(out), heads, kvHeads, headDim, window, format, to.weight(sinks)],
      {
        reads: [to.partials, to.region(out)],
      },
    );
  },
  gate(op, to) {
    const { gate, up, activation, limit, out } = op;
    to.add("gate", op, [
      ...[to.value(out), to.value(gate), to.value(up), gate.cols, up.cols / gate.cols],
      ...[ACTIVATIONS[activation], { f32: limit }],
    ]);
  },
  lookUp(op, to) {
    to.add("scale", op, [to.value(op.out), to.weight(op.table), op.out.cols, { f32: op.scale }]);
  },
  scale(op, to) {
    to.add("scale", op, [to.value(op.out), to.value(op.x), op.out.cols, { f32: op.factor }]);
  },
  slice(op, to) {
    const { x, groups, from, size, out } = op;
    to.add("slice", op, [to.value(out), to.value(x) + from * 4, groups, size, x.cols / groups]);
  },
  route(op, to) {
    const { logits, k, normalise, weights, out } = op;
    to.add("route", op, [
      ...[to.value(out), to.value(logits), logits.cols, k, normalise ? 1 : 0, to.weight(weights)],
    ]);
  },
  expertMatmul(op, to) {
    const { x, picks, weight, bias, experts, out } = op;
    const { quantized, pickOrder, pickStarts, work, workBytes } = to.layout;
    const k = picks.cols / 2;
    const reads = [...to.quantize(x, weight), ...to.groupPicks(picks, experts)];
    to.add(
      "expertMatmul",
      op,
      [
        ...[to.value(out), to.value(x), quantized, to.weight(weight), TYPE_IDS[weight.type]],
        ...[weight.rows / experts, weight.cols, to.weight(bias), experts],
        ...[x.cols === weight.cols ? k : 1, pickOrder, pickStarts, work, workBytes],
      ],
      { reads },
    );
  },
  combine(op, to) {
    const { x, picks, out } = op;
    to.add("combine", op, [to.value(out), to.value(x), to.value(picks), out.cols, picks.cols / 2]);
  },
  add(op, to) {
    to.add("add", op, [to.value(op.out), to.value(op.a), to.value(op.b), op.out.cols]);
  },
  softcap(op, to) {
    to.add("softcap", op, [to.value(op.out), to.value(op.x), op.out.cols, { f32: op.cap }]);
  },
  takeOutputs(op, to) {
    to.add("takeOutputs", op, [to.value(op.out), to.value(op.x), op.out.cols]);
  },
};

/** What a record touches beside its operation's values. */
interface Touch {
  readonly reads?: readonly Region[];
  readonly writes?: readonly Region[];
}

class ProgramWriter {
  readonly #records: RecordWriter;
  readonly #meetings = new Meetings();
  /** Of which value, in vectors of how many columns, `quantized` holds the codes. */
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

  /** A record of an operation, whose rows are those of the value that it writes, or else reads. */
  add(kind: Kind, op: Op, args: readonly Argument[], { reads = [], writes = [] }: Touch = {}): void {
    const inputs = inputsOf(op);
    const out = outputOf(op);
    this.#meet(
      [...inputs.map((x) => this.region(x)), ...reads],
      [...(out ? [this.region(out)] : []), ...writes],
    );
    this.#records.add(kind, (out ?? inputs[0]).rows, args);
  }

  /** Makes codes of x where products with the weight take those, unless they are there; gives what the product reads. */
  quantize(x: Value, weight: Weight): readonly Region[] {
    const { type, cols } = weight;
    if (!needsQuantizedInput(type)) return [];
    if (this.#quantizedOf?.x !== x || this.#quantizedOf.cols !== cols) {
      this.#meet([this.region(x)], [this.quantized]);
      this.#records.add("quantize", x.rows, [this.layout.quantized, this.value(x), cols, x.cols / cols]);
      this.#quantizedOf = { x, cols };
    }
    return [this.quantized];
  }

  /** Sorts picks by expert unless they are; gives what products with experts read of that. */
  groupPicks(picks: Value, experts: number): readonly Region[] {
    if (this.#groupedOf?.picks !== picks || this.#groupedOf.experts !== experts) {
      const { pickOrder, pickStarts } = this.layout;
      this.#meet([this.region(picks)], [this.groups]);
      const k = picks.cols / 2;
      this.#records.add("groupPicks", picks.rows, [pickOrder, pickStarts, this.value(picks), experts, k]);
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

  /** Where vectors as they come lie in a cache, and packed pages, each with its tables. */
  pages({ id, codec, pool }: Cache) {
    const { caches, tables } = this.layout;
    const own = { at: caches[id], tables: tables[pool.id] };
    if (!codec.packed) return { vectors: own, packed: own };
    const recent = {
      at: caches[id] + poolBytes(this.graph.caches[id]),
      tables: tables[this.graph.recent!.id],
    };
    return { vectors: recent, packed: own };
  }

  /** Stands for the whole of a cache. */
  cache({ id }: Cache): Region {
    return { from: this.layout.caches[id], to: this.layout.caches[id] + 1 };
  }

  #meet(reads: readonly Region[], writes: readonly Region[]): void {
    if (this.#meetings.isNeededBefore(reads, writes)) this.#records.meet();
  }
}
