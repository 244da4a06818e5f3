/**
 * Records a forward pass as a Graph. Model files call `op.matmul(x, w)` and read like the paper; the result is a list
 * of operations, with every activation placed in one arena by its lifetime. Values are written once, so the last
 * operation that reads a value ends its lifetime. Nothing is computed here.
 */
import { ArgumentError } from "../format/errors.ts";
import type { TensorType } from "../format/tensor.ts";
import {
  type Activation,
  type Cache,
  type Graph,
  type KvCodec,
  type KvPart,
  MOST_KERNEL,
  type Op,
  type Pool,
  type Rope,
  type State,
  type Value,
  type Weight,
} from "./contract.ts";
import { inputsOf, outputOf, overwritable } from "./facts.ts";
import { heldDim, keyDim } from "./kv.ts";
import { turnedPairs } from "./rope-angles.ts";

/** WebGPU's largest alignment of storage-buffer offsets; enough for SIMD, too. */
const ALIGNMENT = 256;

export interface CacheOptions {
  layer: number;
  codec: KvCodec;
  kvHeads: number;
  headDim: number;
  /** Default: 0. */
  turned?: number;
  pool: Pool;
}

export interface DeltaOptions {
  layer: number;
  keyHeads: number;
  valueHeads: number;
  keyDim: number;
  valueDim: number;
  /** Default: value heads of one key head are adjacent. */
  tiled?: boolean;
  /** Epsilon of the L2 norms of queries and keys. */
  epsilon: number;
}

export class Recorder {
  readonly #ops: Op[] = [];
  readonly #values: Value[] = [];
  readonly #weights = new Map<string, Weight>();
  readonly #caches: Cache[] = [];
  readonly #states: State[] = [];
  readonly #pools: Pool[] = [];
  #recentPool: Pool | null = null;
  readonly #ropes: Rope[] = [];
  readonly #labels = new Map<string, Value>();

  constructor(
    readonly maxTokens: number,
    readonly maxOutputs: number,
  ) {}

  /** The same name is the same weight: tied embeddings declare it twice. */
  weight(name: string, role: Weight["role"], type: TensorType, rows: number, cols: number): Weight {
    const known = this.#weights.get(name);
    if (known) return known;
    const weight: Weight = { id: this.#weights.size, name, role, type, rows, cols };
    this.#weights.set(name, weight);
    return weight;
  }

  pool(window: number | null, pages: number): Pool {
    const pool: Pool = { id: this.#pools.length, window, pages };
    this.#pools.push(pool);
    return pool;
  }

  /** The pool of unpacked vectors, for caches whose codec packs. */
  recentPool(pages: number): Pool {
    this.#recentPool = this.pool(null, pages);
    return this.#recentPool;
  }

  cache(options: CacheOptions): Cache {
    const { turned = 0, headDim } = options;
    if (!(turned >= 0 && turned < headDim && turned % 16 === 0))
      throw new ArgumentError("turned dims of keys", turned, `multiples of 16 below ${headDim}`);
    const cache: Cache = { id: this.#caches.length, ...options, turned };
    this.#caches.push(cache);
    return cache;
  }

  /** frequencies: radians per position, [rotary dims / 2]. */
  ropeTable(frequencies: Float64Array, magnitude = 1): Rope {
    const rope: Rope = { id: this.#ropes.length, frequencies, magnitude };
    this.#ropes.push(rope);
    return rope;
  }

  rope(x: Value, heads: number, rope: Rope): Value {
    const out = this.#like(x);
    this.#ops.push({ op: "rope", x, heads, rope, out });
    return out;
  }

  /** weight: for queries. */
  takeTurned(x: Value, heads: number, rope: Rope, weight: Weight | null = null): Value {
    const headDim = x.cols / heads;
    if (weight) fits(`length of ${weight.name}`, weight.cols, headDim, "the head size");
    const pairs = turnedPairs(rope);
    if (pairs === null) throw new ArgumentError("pairs that turn", "scattered", "the first of all");
    const out = this.#value(x.rows, heads * (2 * pairs + (weight ? headDim : 0)));
    this.#ops.push({ op: "takeTurned", x, heads, rope, weight, out });
    return out;
  }

  embed(table: Weight, scale = 1): Value {
    const out = this.#value("tokens", table.cols);
    this.#ops.push({ op: "embed", table, scale, out });
    return out;
  }

  lookUp(table: Weight, scale = 1): Value {
    const out = this.#value("tokens", table.cols);
    this.#ops.push({ op: "lookUp", table, scale, out });
    return out;
  }

  rmsNorm(x: Value, weight: Weight | null, epsilon: number, groups = 1): Value {
    if (weight && weight.cols * groups !== x.cols)
      throw new ArgumentError(`rmsNorm weight ${weight.name}`, weight.cols, `${x.cols / groups} values`);
    const out = this.#like(x);
    this.#ops.push({ op: "rmsNorm", x, weight, groups, epsilon, out });
    return out;
  }

  matmul(x: Value, weight: Weight, bias: Weight | null = null): Value {
    if (weight.cols !== x.cols)
      throw new ArgumentError(`columns of ${weight.name}`, weight.cols, `${x.cols}, the width of its input`);
    if (bias && bias.cols !== weight.rows)
      throw new ArgumentError(
        `length of ${bias.name}`,
        bias.cols,
        `${weight.rows}, the rows of ${weight.name}`,
      );
    const out = this.#value(x.rows, weight.rows);
    this.#ops.push({ op: "matmul", x, weight, bias, out });
    return out;
  }

  appendKv(cache: Cache, keys: Value, values: Value): void {
    for (const [part, x] of Object.entries({ keys, values }))
      fits(`columns of ${part}`, x.cols, cache.kvHeads * heldDim(cache, part as KvPart), "the cache's");
    this.#ops.push({ op: "appendKv", keys, values, cache });
  }

  attend(
    cache: Cache,
    queries: Value,
    options: { heads: number; scale: number; softcap?: number; sinks?: Weight | null },
  ): Value {
    const { heads, scale, softcap = 0, sinks = null } = options;
    fits("columns of queries", queries.cols, heads * keyDim(cache), `${heads} heads of ${keyDim(cache)}`);
    if (sinks) fits(`length of ${sinks.name}`, sinks.cols, heads, "the query heads");
    const out = this.#value(queries.rows, heads * cache.headDim);
    this.#ops.push({ op: "attend", queries, heads, cache, scale, softcap, sinks, out });
    return out;
  }

  /** limit: for swigluOai. */
  gate(gate: Value, up: Value, activation: Activation, limit = 0): Value {
    if (gate.rows !== up.rows) throw new ArgumentError("rows of the gated value", up.rows, gate.rows);
    if (up.cols % gate.cols !== 0)
      throw new ArgumentError("columns of a gate", gate.cols, `a divisor of ${up.cols}, the gated columns`);
    if (activation === "swigluOai" ? !(limit > 0) : limit !== 0)
      throw new ArgumentError("limit of a gate", limit, "above 0 for swigluOai, 0 for the others");
    const out = this.#like(up);
    this.#ops.push({ op: "gate", gate, up, activation, limit, out });
    return out;
  }

  /** The columns from .. from + size of each of x's groups. */
  slice(x: Value, options: { groups?: number; from: number; size: number }): Value {
    const { groups = 1, from, size } = options;
    const cols = x.cols / groups;
    if (!Number.isInteger(cols))
      throw new ArgumentError("groups of a slice", groups, `divisors of ${x.cols}`);
    if (!(from >= 0 && size >= 1 && from + size <= cols))
      throw new ArgumentError("columns of a slice", `${from} to ${from + size}`, `0 to ${cols}`);
    const out = this.#value(x.rows, groups * size);
    this.#ops.push({ op: "slice", x, groups, from, size, out });
    return out;
  }

  scale(x: Value, factor: number): Value {
    const out = this.#like(x);
    this.#ops.push({ op: "scale", x, factor, out });
    return out;
  }

  /** logits [rows, experts] -> picks [rows, 2k]. */
  route(logits: Value, options: { k: number; normalise: boolean; weights?: Weight | null }): Value {
    const { k, normalise, weights = null } = options;
    if (!(Number.isInteger(k) && k >= 1 && k <= logits.cols))
      throw new ArgumentError("picks of a token", k, `1 to ${logits.cols}`);
    if (weights) fits(`length of ${weights.name}`, weights.cols, logits.cols, "the experts");
    const out = this.#value(logits.rows, 2 * k);
    this.#ops.push({ op: "route", logits, k, normalise, weights, out });
    return out;
  }

  /** weight [experts * R, C]; x [rows, C] or [rows, k, C] -> [rows, k, R]. */
  expertMatmul(
    x: Value,
    picks: Value,
    weight: Weight,
    options: { experts: number; bias?: Weight | null },
  ): Value {
    const { experts, bias = null } = options;
    const k = picks.cols / 2;
    if (x.cols !== k * weight.cols) fits(`columns of ${weight.name}`, weight.cols, x.cols, "its input's");
    if (weight.rows % experts !== 0)
      throw new ArgumentError(`rows of ${weight.name}`, weight.rows, `a multiple of ${experts} experts`);
    if (bias) fits(`length of ${bias.name}`, bias.cols, weight.rows, `the rows of ${weight.name}`);
    const out = this.#value(x.rows, k * (weight.rows / experts));
    this.#ops.push({ op: "expertMatmul", x, picks, weight, bias, experts, out });
    return out;
  }

  /** x [rows, k, C] -> [rows, C]. */
  combine(x: Value, picks: Value): Value {
    const k = picks.cols / 2;
    if (x.cols % k !== 0) throw new ArgumentError("columns to combine", x.cols, `a multiple of ${k} picks`);
    const out = this.#value(x.rows, x.cols / k);
    this.#ops.push({ op: "combine", x, picks, out });
    return out;
  }

  add(a: Value, b: Value): Value {
    const out = this.#likeBoth(a, b);
    this.#ops.push({ op: "add", a, b, out });
    return out;
  }

  /** x [tokens, C]; weight: a vector [C * kernel]; the values of channel c start at c * kernel. */
  conv(
    x: Value,
    weight: Weight,
    options: { layer: number; kernel: number; activation: "silu" | null },
  ): Value {
    const { layer, kernel, activation } = options;
    if (!(Number.isInteger(kernel) && kernel >= 2 && kernel <= MOST_KERNEL))
      throw new ArgumentError("kernel of a convolution", kernel, `integers 2 to ${MOST_KERNEL}`);
    ofTokens("conv", x);
    fits(`length of ${weight.name}`, weight.cols, x.cols * kernel, `a kernel of ${kernel} for each channel`);
    const out = this.#like(x);
    const state = this.#state(layer, (kernel - 1) * x.cols);
    this.#ops.push({ op: "conv", x, weight, kernel, activation, state, out });
    return out;
  }

  /** x [tokens, q | k | v]; a, b [tokens, valueHeads]; rates, bias [valueHeads] -> [tokens, valueHeads * valueDim]. */
  gatedDelta(
    { x, a, b }: { x: Value; a: Value; b: Value },
    { rates, bias }: { rates: Weight; bias: Weight },
    options: DeltaOptions,
  ): Value {
    const { layer, valueDim, tiled = false, ...heads } = options;
    const { keyHeads, valueHeads, keyDim } = heads;
    if (valueHeads % keyHeads !== 0)
      throw new ArgumentError("value heads", valueHeads, `a multiple of the ${keyHeads} key heads`);
    ofTokens("gatedDelta", x);
    fits("columns of q, k and v", x.cols, 2 * keyHeads * keyDim + valueHeads * valueDim, "by the heads");
    for (const { cols } of [a, b, rates, bias])
      fits("gates of gatedDelta", cols, valueHeads, "the value heads");
    const out = this.#value("tokens", valueHeads * valueDim);
    const state = this.#state(layer, valueHeads * valueDim * keyDim);
    this.#ops.push({ op: "gatedDelta", x, a, b, rates, bias, ...heads, tiled, state, out });
    return out;
  }

  softcap(x: Value, cap: number): Value {
    const out = this.#like(x);
    this.#ops.push({ op: "softcap", x, cap, out });
    return out;
  }

  takeOutputs(x: Value): Value {
    const out = this.#value("outputs", x.cols);
    this.#ops.push({ op: "takeOutputs", x, out });
    return out;
  }

  /** Names a value, for tests and studies. Costs nothing unless `finish` is asked to keep labelled values. */
  label(x: Value, name: string): Value {
    this.#labels.set(name, x);
    return x;
  }

  /**
   * keepLabels: labelled values, all or those with these names, get memory of their own and can be read after a step.
   * texts: default 1. blocks: pages of a text; default: as many as the largest pool has. stateSlots: default and
   * minimum: two for each text.
   */
  finish(
    logits: Value,
    options: {
      keepLabels?: boolean | readonly string[];
      texts?: number;
      blocks?: number;
      stateSlots?: number;
    } = {},
  ): Graph {
    const {
      keepLabels = false,
      texts = 1,
      blocks = Math.max(1, ...this.#pools.map(({ pages }) => pages)),
      stateSlots = 2 * texts,
    } = options;
    if (!(stateSlots >= 2 * texts))
      throw new ArgumentError("slots of states", stateSlots, `at least ${2 * texts}, two for each text`);
    if (!this.#recentPool && this.#caches.some(({ codec }) => codec.packed))
      throw new ArgumentError("caches with a packing", "no pool for recent tokens", "recentPool()");
    const isKept = (name: string) =>
      typeof keepLabels === "boolean" ? keepLabels : keepLabels.includes(name);
    const labels = new Map([...this.#labels].filter(([name]) => isKept(name)));
    const kept = new Set([logits.id, ...[...labels.values()].map((v) => v.id)]);
    return {
      maxTokens: this.maxTokens,
      maxOutputs: this.maxOutputs,
      texts,
      blocks,
      pools: this.#pools,
      recentPool: this.#recentPool,
      ops: this.#ops,
      weights: [...this.#weights.values()],
      caches: this.#caches,
      states: this.#states,
      stateSlots: this.#states.length > 0 ? stateSlots : 0,
      ropes: this.#ropes,
      values: this.#values,
      ...layOut(this.#ops, this.#values, kept, (v) => this.#bytes(v)),
      logits,
      labels,
    };
  }

  #state(layer: number, values: number): State {
    const state: State = { id: this.#states.length, layer, values };
    this.#states.push(state);
    return state;
  }

  #bytes(value: Value): number {
    const rows = value.rows === "tokens" ? this.maxTokens : this.maxOutputs;
    return Math.ceil((rows * value.cols * 4) / ALIGNMENT) * ALIGNMENT;
  }

  #like(x: Value): Value {
    return this.#value(x.rows, x.cols);
  }

  #likeBoth(a: Value, b: Value): Value {
    if (a.rows !== b.rows || a.cols !== b.cols)
      throw new ArgumentError("the second operand", `${b.rows} x ${b.cols}`, `${a.rows} x ${a.cols}`);
    return this.#like(a);
  }

  #value(rows: Value["rows"], cols: number): Value {
    const value: Value = { id: this.#values.length, rows, cols };
    this.#values.push(value);
    return value;
  }
}

function ofTokens(op: Op["op"], x: Value): void {
  if (x.rows !== "tokens") throw new ArgumentError(`rows of ${op}`, x.rows, "tokens");
}

function fits(what: string, found: number, allowed: number, whose: string): void {
  if (found !== allowed) throw new ArgumentError(what, found, `${allowed}, ${whose}`);
}

/** First-fit placement of values by lifetime; memory is free again after the value's last reader. */
function layOut(
  ops: readonly Op[],
  values: readonly Value[],
  kept: ReadonlySet<number>,
  bytesOf: (v: Value) => number,
) {
  const lastUse = new Array<number>(values.length).fill(-1);
  ops.forEach((op, i) => {
    for (const v of inputsOf(op)) lastUse[v.id] = i;
  });
  for (const id of kept) lastUse[id] = ops.length;

  const offsets = new Array<number>(values.length).fill(0);
  let live: { id: number; from: number; to: number }[] = [];
  let arenaBytes = 0;
  ops.forEach((op, i) => {
    const out = outputOf(op);
    if (out) {
      const bytes = bytesOf(out);
      const dying = overwritable(op).find((v) => lastUse[v.id] === i);
      if (dying) {
        offsets[out.id] = offsets[dying.id];
        live = live.filter((place) => place.id !== dying.id);
      } else {
        let from = 0;
        for (const place of live) {
          if (from + bytes <= place.from) break;
          from = Math.max(from, place.to);
        }
        offsets[out.id] = from;
      }
      live.push({ id: out.id, from: offsets[out.id], to: offsets[out.id] + bytes });
      live.sort((a, b) => a.from - b.from);
      arenaBytes = Math.max(arenaBytes, offsets[out.id] + bytes);
    }
    live = live.filter((place) => lastUse[place.id] > i);
  });
  return { offsets, arenaBytes };
}
