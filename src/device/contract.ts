/**
 * The contract between a model and the devices that compute it. A forward pass is a `Graph`: a list of operations over
 * activations, weights and caches, recorded once. A device measures it (pure), allocates all of it at once, loads
 * weights, and then runs steps; nothing is allocated during a step. `reference/` defines every operation.
 *
 * Many texts share a step: its rows are the new tokens of each. Keys and values are stored in pages of PAGE_SLOTS
 * tokens, taken from pools; the host fills in a table of pages for each text and pool.
 */
import type { Tensor, TensorType } from "../format/tensor.ts";
import type { Cache, KvPart, PagePlace, Pool } from "./kv.ts";
import type { Rope } from "./rope-angles.ts";

export type { Cache, KvCodec, KvPart, Packing, PagePlace, PartFormat, Pool } from "./kv.ts";
export type { Rope } from "./rope-angles.ts";
/** Token slots of a page: the unit in which devices pack keys and values, and in which texts use memory. */
export const PAGE_SLOTS = 32;

/** The longest kernel of `conv`. */
export const MOST_KERNEL = 8;

/** In a run's ids: the id that the device chose last for this text. Only on devices that choose (`Device.chooses`). */
export const CHOSEN = 0xffffffff;

/** How many outputs of a step a device may choose for, in addition to one for each text: the size of its buffers. */
export const MORE_CHOSEN = 15;

/** New tokens of one text in a step, at consecutive positions. */
export interface Run {
  /** The text's row in the page tables: 0 to graph.texts - 1. No two runs of a step have the same. */
  readonly text: number;
  /**
   * Position of ids[0]. The text's pages must hold every earlier position that a cache's window still needs, and its
   * table must have pages for the new ones.
   */
  readonly position: number;
  /** One id or more. */
  readonly ids: Uint32Array;
  /** How many of the last tokens reach the output: 0 while a prompt is read. */
  readonly outputs: number;
  /**
   * In a graph with states, the slots of the text's states: `from` at `position` (null at position 0: zeros) is only
   * read, `to` is written. No other run of the step may read or write `to`; several may read one `from`.
   */
  readonly state?: RunState | null;
  /** In a graph with packed caches; default: nothing is packed. */
  readonly packed?: RunPacked | null;
  /**
   * Makes the device choose an id after each of the run's outputs, with random numbers `draw`, `draw` + 1, ... CHOSEN
   * is then the last of them. At most graph.texts + MORE_CHOSEN in a step. Default: it does not choose.
   */
  readonly sampling?: Sampling | null;
}

export interface RunState {
  readonly from: number | null;
  readonly to: number;
}

/** The blocks of a text that its packed caches hold packed. */
export interface RunPacked {
  /**
   * Number of packed blocks, which rows of the run read from their cache's pool, except the first ones (Packing.firstPages).
   * Those and all later blocks, including the rows' own, are in pages of Graph.recentPool. No row is in a packed block.
   */
  readonly blocks: number;
  /**
   * Blocks from `blocks` on, never the first ones of a text, that this step packs after storing its rows: from recent
   * pages to packed ones, for later steps. With its rows they are full. A cache with a window skips those that no later
   * row sees (`position` minus the block's last position >= window): their page may already belong to another text.
   */
  readonly pack: readonly number[];
}

/**
 * One pass over the weights for all rows of its runs, in their order: at most graph.maxTokens rows, of which at most
 * graph.maxOutputs reach the output.
 */
export interface Step {
  readonly runs: readonly Run[];
}

/** An activation [tokens or outputs, cols] f32. */
export interface Value {
  readonly id: number;
  readonly rows: "tokens" | "outputs";
  readonly cols: number;
}

/**
 * A matrix [rows, cols] that stays in its file type, or a vector (norm weights, biases) [1, cols] held as f32.
 * Activations are multiplied as y[t, row] = sum over col of weight[row, col] x[t, col]. A table is a matrix of which a
 * step reads single rows by id from the file: no device holds it, and `Allocation.load` only keeps the tensor.
 */
export interface Weight {
  readonly id: number;
  readonly name: string;
  readonly role: "matrix" | "vector" | "table";
  readonly type: TensorType;
  readonly rows: number;
  readonly cols: number;
}

/**
 * What a layer remembers of a text besides keys and values: numbers that every token changes. Only the state at one
 * position is known, and an earlier one cannot be recovered. A slot (0 to graph.stateSlots - 1) holds the states of all
 * layers of one text at one position; a run reads one slot and writes another, so earlier positions remain available.
 */
export interface State {
  readonly id: number;
  readonly layer: number;
  /** Number of f32 values in one slot. */
  readonly values: number;
}

/**
 * silu, geluTanh: a(gate) * up. sigmoid: up / (1 + e^-gate). swigluOai (gpt-oss): g = min(gate, limit), u = up clamped to
 * -limit..limit, g / (1 + e^(-1.702 g)) * (u + 1).
 */
export type Activation = "silu" | "geluTanh" | "sigmoid" | "swigluOai";

export type Op =
  /** out = table[id] * scale */
  | { readonly op: "embed"; readonly table: Weight; readonly scale: number; readonly out: Value }
  /** The same for a table, whose rows the host reads before the step: its ids must be known, not CHOSEN. */
  | { readonly op: "lookUp"; readonly table: Weight; readonly scale: number; readonly out: Value }
  /** Each row is `groups` vectors; each is divided by sqrt(mean(x^2) + epsilon), times weight [cols / groups]. */
  | {
      readonly op: "rmsNorm";
      readonly x: Value;
      readonly weight: Weight | null;
      readonly groups: number;
      readonly epsilon: number;
      readonly out: Value;
    }
  | {
      readonly op: "matmul";
      readonly x: Value;
      readonly weight: Weight;
      readonly bias: Weight | null;
      readonly out: Value;
    }
  /** x [tokens, heads, headDim], rotated by position (RoPE). */
  | {
      readonly op: "rope";
      readonly x: Value;
      readonly heads: number;
      readonly rope: Rope;
      readonly out: Value;
    }
  /**
   * For a cache with one vector for key and value (Cache.turned). x [tokens, heads, headDim], after `rope`.
   * out: for each head the rotary dims (turnedPairs of rope-angles.ts), first halves of all pairs, then second halves;
   * with a weight [headDim], for queries, then all dims times the weight, with 0 for rotary dims.
   */
  | {
      readonly op: "takeTurned";
      readonly x: Value;
      readonly heads: number;
      readonly rope: Rope;
      readonly weight: Weight | null;
      readonly out: Value;
    }
  /**
   * Stores keys [tokens, kvHeads, headDim or Cache.turned] and values [tokens, kvHeads, headDim] unpacked at the rows'
   * positions. In a cache with a packing, the blocks of `Run.packed.pack` are then packed.
   */
  | { readonly op: "appendKv"; readonly keys: Value; readonly values: Value; readonly cache: Cache }
  /**
   * queries [tokens, heads, keyDim of the cache] attend to their texts' pages: causal, windowed; softmax(scale q.k,
   * soft-capped if > 0). sinks: vector [heads]: one additional score for each query of a head, without a value; neither
   * scaled nor capped.
   */
  | {
      readonly op: "attend";
      readonly queries: Value;
      readonly heads: number;
      readonly cache: Cache;
      readonly scale: number;
      readonly softcap: number;
      readonly sinks: Weight | null;
      readonly out: Value;
    }
  /**
   * out = activation(gate, up) [rows, up.cols]; gate.cols divides up.cols, and each gate applies to up.cols / gate.cols
   * consecutive columns. limit: for swigluOai, above 0; 0 for the others.
   */
  | {
      readonly op: "gate";
      readonly gate: Value;
      readonly up: Value;
      readonly activation: Activation;
      readonly limit: number;
      readonly out: Value;
    }
  | { readonly op: "add"; readonly a: Value; readonly b: Value; readonly out: Value }
  /** out = x * factor */
  | { readonly op: "scale"; readonly x: Value; readonly factor: number; readonly out: Value }
  /** x [rows, groups, x.cols / groups]; out [rows, groups, size]: the columns from .. from + size of each group. */
  | {
      readonly op: "slice";
      readonly x: Value;
      readonly groups: number;
      readonly from: number;
      readonly size: number;
      readonly out: Value;
    }
  /**
   * Softmax over all logits [rows, experts], and its k largest values, ties: lowest id first. out [rows, 2k], "picks":
   * k ids as whole numbers, then their k weights, divided by their sum if `normalise`, then times weights[id] if there
   * is such a vector [experts]. If logits are NaN, weights are NaN and ids still below `experts`.
   */
  | {
      readonly op: "route";
      readonly logits: Value;
      readonly k: number;
      readonly normalise: boolean;
      readonly weights: Weight | null;
      readonly out: Value;
    }
  /**
   * A product with the picked experts' matrices: weight [experts * R, C], the rows of expert e start at e * R; bias: a
   * vector [experts * R], likewise. x [rows, C], shared by all picks of a row, or [rows, k, C], one for each pick.
   * picks: the output of `route`. out [rows, k, R]. Only picked experts' weights are read.
   */
  | {
      readonly op: "expertMatmul";
      readonly x: Value;
      readonly picks: Value;
      readonly weight: Weight;
      readonly bias: Weight | null;
      readonly experts: number;
      readonly out: Value;
    }
  /** x [rows, k, C]; out [rows, C] = sum over k, in order, of pick k's weight times x_k. picks: from `route`. */
  | { readonly op: "combine"; readonly x: Value; readonly picks: Value; readonly out: Value }
  /**
   * A causal convolution over each text's tokens. x, out [tokens, C]: out[t, c] = sum over j of weight[c * kernel + j]
   * x[t - kernel + 1 + j, c], then silu if requested; before a text's first token x is 0. kernel: 2 to MOST_KERNEL.
   * State [kernel - 1, C]: the last inputs, oldest first.
   */
  | {
      readonly op: "conv";
      readonly x: Value;
      readonly weight: Weight;
      readonly kernel: number;
      readonly activation: "silu" | null;
      readonly state: State;
      readonly out: Value;
    }
  /**
   * The gated delta rule (arXiv 2412.06464), token by token. x [tokens, q | k | v]: q, k [keyHeads, keyDim], v
   * [valueHeads, valueDim]; a, b [tokens, valueHeads]; rates, bias: vectors [valueHeads]. Value head h reads key head h
   * % keyHeads if `tiled`, else h / (valueHeads / keyHeads). q and k are divided by sqrt(sum of squares + epsilon), q
   * also by sqrt(keyDim). For each head S [valueDim, keyDim]: S = e^(rates * ln(1 + e^(a + bias))) S; S += (v - S k)
   * k^T / (1 + e^-b); out [tokens, valueHeads, valueDim] = S q. State [valueHeads, valueDim, keyDim].
   */
  | {
      readonly op: "gatedDelta";
      readonly x: Value;
      readonly a: Value;
      readonly b: Value;
      readonly rates: Weight;
      readonly bias: Weight;
      readonly keyHeads: number;
      readonly valueHeads: number;
      readonly keyDim: number;
      readonly tiled: boolean;
      readonly epsilon: number;
      readonly state: State;
      readonly out: Value;
    }
  /** out = cap * tanh(x / cap) */
  | { readonly op: "softcap"; readonly x: Value; readonly cap: number; readonly out: Value }
  /** The last `outputs` rows of each run in x, in the order of the runs. */
  | { readonly op: "takeOutputs"; readonly x: Value; readonly out: Value };

export interface Graph {
  readonly maxTokens: number;
  readonly maxOutputs: number;
  /** Rows of the page tables: the number of texts that a device holds at once. */
  readonly texts: number;
  /** Pages of one text in a table: its positions are below blocks * PAGE_SLOTS. */
  readonly blocks: number;
  readonly pools: readonly Pool[];
  /** One of the pools: pages of unpacked vectors, for all caches with a packing. null: there are none. */
  readonly recentPool: Pool | null;
  readonly ops: readonly Op[];
  readonly weights: readonly Weight[];
  readonly caches: readonly Cache[];
  readonly states: readonly State[];
  /** Slots of each state; 0 without states. */
  readonly stateSlots: number;
  readonly ropes: readonly Rope[];
  readonly values: readonly Value[];
  /** Byte offset of each value (by id) in an arena of `arenaBytes`: values that are never alive together overlap. */
  readonly offsets: readonly number[];
  readonly arenaBytes: number;
  /** The result of a step. */
  readonly logits: Value;
  /** Named values that remain readable after a step. */
  readonly labels: ReadonlyMap<string, Value>;
}

/** Bytes that a device will hold for a graph, before anything is allocated. */
export interface Footprint {
  /** By weight id. */
  readonly weights: readonly number[];
  /** By cache id. */
  readonly caches: readonly number[];
  /** By state id: all slots. */
  readonly states: readonly number[];
  readonly activations: number;
  /** Scratch of kernels, staging for loading, tables, code. */
  readonly workspace: number;
  readonly total: number;
  /** The largest single buffer, if the device limits buffers (Device.bufferBytes). */
  readonly largest?: { readonly label: string; readonly bytes: number };
}

/** Memory that a device may use, shared with others. */
export interface DeviceMemory {
  readonly bytes: number;
  /** The source of this number: "nvidia-smi". */
  readonly source: string;
}

export interface Device {
  /** "reference", "wasm", ... */
  readonly name: string;
  /** A description for people: "wasm, relaxed SIMD, 2 threads". */
  readonly description: string;
  /** The largest allocation, in bytes. */
  readonly memoryBytes: number;
  /** Available memory when the device was opened; null: the system does not report it. */
  readonly memory?: DeviceMemory | null;
  /** The set of kernels that it uses, and milliseconds of each set if they were timed when it was opened. */
  readonly kernels?: {
    readonly set: string;
    readonly sets: readonly string[];
    readonly ms: { readonly [set: string]: number } | null;
  };
  /** The largest buffer, in bytes; absent: no such limit. */
  readonly bufferBytes?: number;
  /** The best number of prompt tokens for one step; a plan's default. */
  readonly chunk: number;
  /** Weights that may be loaded in parallel; default 1. More do not take more memory. */
  readonly loads?: number;
  /** It can choose ids: runs may have `sampling`, and CHOSEN among their ids. */
  readonly chooses: boolean;
  /** It can wait for the host after each appendKv of a step. Default: it cannot. */
  readonly pauses?: boolean;
  /** Formats of vectors for which the device has kernels, by name; null: any codec, including packed ones. */
  readonly kvFormats: readonly string[] | null;
  /** Parts of packed formats for which it has kernels, as in their descriptions: "4c". Absent: none. */
  readonly kvParts?: { readonly [part in KvPart]: readonly string[] };
  /** It has takeTurned, and attends to caches with a Cache.turned. Default: it does not. */
  readonly oneVector?: boolean;
  /** The format that suits it best. Default: DEFAULT_KV of src/cache. */
  readonly defaultKv?: string;
  measure(graph: Graph): Footprint;
  allocate(graph: Graph): Promise<Allocation>;
}

/**
 * Everything of one graph on one device. Calls take effect in the order in which they are made: a step sees the tables
 * and pages as set before it. One call at a time, except for loads (`Device.loads`) and reading `Ran.chosen`.
 */
export interface Allocation {
  readonly footprint: Footprint;
  /**
   * Fills a weight from its tensor, piece by piece; tables are not copied. `onBytes` counts file bytes as they arrive.
   */
  load(weight: Weight, tensor: Tensor, onBytes?: (bytes: number) => void): Promise<void>;
  /**
   * Resolves when the device can accept another call; the step may still be running. `Ran.chosen` has the ids that it
   * chose. Throws ArgumentError for a step that does not fit the graph; nothing has run then. afterAppend: only on
   * devices that pause (`Device.pauses`), which await it before anything reads what was appended.
   */
  run(step: Step, afterAppend?: AfterAppend): Promise<Ran>;
  /** Sets the pages of blocks first, first + 1, ... of a text, for later steps. */
  setPages(pool: Pool, text: number, first: number, pages: ArrayLike<number>): void;
  /** Copies page `from` to page `to`, in every cache of the pool. */
  copyPage(pool: Pool, from: number, to: number): Promise<void>;
  /**
   * One KV head's keys or values in pages, as the codec's bytes: [pages, PAGE_SLOTS, vectorBytes], or [pages,
   * pageBytes] for packed pages. Read many pages at once: on a GPU each call is one wait.
   */
  readPages(place: PagePlace, pages: readonly number[]): Promise<Uint8Array>;
  /** Writes the same bytes. */
  writePages(place: PagePlace, pages: readonly number[], bytes: Uint8Array): Promise<void>;
  /** A slot's part of a state: its f32 numbers in the order of the operation that owns it, on every device. */
  readState(state: State, slot: number): Promise<Uint8Array>;
  /** Writes the same numbers. */
  writeState(state: State, slot: number, bytes: Uint8Array): Promise<void>;
  /** A copy of a value's rows from the last step; `rows` of them from `first`. */
  read(value: Value, first: number, rows: number): Promise<Float32Array>;
  /**
   * The `count` largest logits of one output row of the last step, without reading all: largest first, ties: lowest id
   * first; fewer if fewer are above -Infinity. Every NaN comes before the largest. null: it cannot return that many.
   */
  candidates?(row: number, count: number): Promise<{ ids: Uint32Array; logits: Float32Array }> | null;
  /** Whether the device can choose with these options; absent: never. */
  canChoose?(sampling: Sampling): boolean;
  /**
   * Measures the dispatches of a step, on devices with a clock of their own: the step runs several times, and its
   * tokens' keys and values are written as by `run`. Throws UnsupportedError if this adapter has no clock.
   */
  profile?(step: Step): Promise<StepProfile>;
  close(): Promise<void>;
}

/** Called once the rows' keys and values are in the cache, so that they can be read and changed by pages. */
export type AfterAppend = (cache: Cache) => Promise<void>;

/** A step that may still be running. */
export interface Ran {
  /**
   * The ids that the device chose for each output of runs with `sampling`, in their order. null if it could not (more
   * candidates are left than it can sort; a logit is NaN or infinite): the host then reads the logits, and CHOSEN is an
   * arbitrary id until one is chosen again. Empty if no run has `sampling`. Rejects with the device's error.
   */
  readonly chosen: Promise<readonly (number | null)[]>;
}

/** Medians of several runs, by the device's own clock. */
export interface StepProfile {
  /** The step as it runs. */
  readonly us: number;
  /** In order, each timed separately, so that their sum is above `us`. bytes: weights and cache that it must access. */
  readonly dispatches: readonly { readonly label: string; readonly us: number; readonly bytes: number }[];
  /** The memory's best rates, in bytes per second: of a kernel that only reads, and of one that copies (both ways). */
  readonly readBytesPerSecond: number;
  readonly copyBytesPerSecond: number;
}

/**
 * How a device chooses an id, as engine/sample.ts does with the same numbers. Sums in f32 may decide a tie differently.
 */
export interface Sampling {
  /** 0: the largest logit; ties: the first. */
  readonly temperature: number;
  /** 0: all. */
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly seed: number;
  /** The index of the random number (uniform.ts). */
  readonly draw: number;
}
