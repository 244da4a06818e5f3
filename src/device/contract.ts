/**
 * The contract between a model and whatever computes it. A forward pass is a `Graph`: a list of operations over
 * activations, weights and caches, recorded once. A device measures it (pure), allocates all of it at once, loads
 * weights, and then runs steps; nothing is allocated during a step. The meaning of every operation is `reference/`.
 *
 * Many texts share a step: its rows are the new tokens of each. What a text remembers lies in pages of PAGE_SLOTS tokens
 * that it draws from pools; the device holds a table of pages for each text and pool, which the host fills in.
 */
import type { Tensor, TensorType } from "../format/tensor.ts";
import type { Cache, KvPart, PagePlace, Pool } from "./kv.ts";
import type { Rope } from "./rope-angles.ts";

export type { Cache, KvCodec, KvPart, Packing, PagePlace, PartFormat, Pool } from "./kv.ts";
export type { Rope } from "./rope-angles.ts";
/** Token slots of a page: the unit in which devices pack keys and values, and in which texts hold memory. */
export const PAGE_SLOTS = 32;

/** The longest `conv`. */
export const MOST_KERNEL = 8;

/** In a run's ids: the id that the device chose last for this text. Only on devices that choose (`Device.chooses`). */
export const CHOSEN = 0xffffffff;

/** Outputs of a step after which a device may choose, beyond one for each text: buffers are made for no more. */
export const MORE_CHOSEN = 15;

/** New tokens of one text in a step, at consecutive positions. */
export interface Run {
  /** The text's row in the page tables: 0 to graph.texts - 1. No two runs of a step have the same. */
  readonly text: number;
  /**
   * Position of ids[0]. The text's pages hold every position below it that a cache's window still needs, and its table
   * has pages for the new ones.
   */
  readonly position: number;
  /** At least one. */
  readonly ids: Uint32Array;
  /** How many of the last tokens reach the output: 0 while a prompt is read. */
  readonly outputs: number;
  /**
   * In a graph with states, the slots with the text's states: `from` at `position` (null at position 0: zeros), `to` after
   * the run. No other run of the step reads or writes `to`; several may read one `from`, which is left as it is.
   */
  readonly state?: RunState | null;
  /** In a graph with packed caches; default: nothing is packed. */
  readonly packed?: RunPacked | null;
  /**
   * Lets the device choose an id after each of its outputs; the first takes the number `draw`, the next draw + 1. CHOSEN is
   * then what comes after the last. Of all runs at most graph.texts + MORE_CHOSEN outputs. Default: it does not.
   */
  readonly sampling?: Sampling | null;
}

export interface RunState {
  readonly from: number | null;
  readonly to: number;
}

/** Blocks of a text that its packed caches hold packed. */
export interface RunPacked {
  /**
   * Rows of the run find the blocks below it, but for the first of a text (Packing.first), in the pages of their cache's pool.
   * The first ones and those from it on, their own among them, they find in the pages of Graph.recent. No position of the run
   * lies below it.
   */
  readonly blocks: number;
  /**
   * Blocks from `blocks` on, never the first of a text, that are packed by this step, after its rows are stored: read from recent pages, written to
   * packed ones, for later steps. This one still reads them as they came. They are full with its rows. A cache with a window
   * leaves those out that no later row sees, `position` less the block's last one being no less than the window: their page
   * may be another text's by then.
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
 * Activations are multiplied as y[t, row] = sum over col of weight[row, col] x[t, col]. A table is a matrix of which a step
 * reads some rows, by id, where they lie: no device holds it, and `Allocation.load` only keeps the tensor.
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
 * What a layer remembers of a text that does not lie in pages: numbers that every token changes, so that only what stands at
 * one position is known, and no earlier one can be found again. A slot (0 to graph.stateSlots - 1) holds the states of all
 * layers of one text at one position; a run reads one slot and writes another, so earlier positions stay for who needs them.
 */
export interface State {
  readonly id: number;
  readonly layer: number;
  /** f32 numbers of one slot. */
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
  /** The same of a table. The host reads the rows before the step runs, so the step's ids must be known: not CHOSEN. */
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
  /** x [tokens, heads, headDim] turned by position. */
  | {
      readonly op: "rope";
      readonly x: Value;
      readonly heads: number;
      readonly rope: Rope;
      readonly out: Value;
    }
  /**
   * For a cache with one vector for key and value (Cache.turned). x [tokens, heads, headDim], as `rope` has turned it. out: of
   * each head the dims that turn (turnedPairs of rope-angles.ts), the first of all pairs, then the second ones; with a weight
   * [headDim], of queries, then all dims times the weight, 0 where they turn.
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
   * keys [tokens, kvHeads, headDim or Cache.turned], values [tokens, kvHeads, headDim] are stored at the rows' positions as they
   * come. In a cache with a packing the blocks of `Run.packed.pack` are packed then.
   */
  | { readonly op: "appendKv"; readonly keys: Value; readonly values: Value; readonly cache: Cache }
  /**
   * queries [tokens, heads, keyDim of the cache] over their texts' pages: causal, windowed; softmax(scale q.k, soft-capped if > 0).
   * sinks: vector [heads]: one more score for each query of a head, without a value; neither scaled nor capped.
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
   * out = activation(gate, up) [rows, up.cols]; gate.cols divides up.cols, and each gate acts on the up.cols / gate.cols
   * columns that follow one another. limit: of swigluOai, above 0; 0 for the others.
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
  /** x [rows, groups, x.cols / groups]; out [rows, groups, size]: of each group the columns from .. from + size. */
  | {
      readonly op: "slice";
      readonly x: Value;
      readonly groups: number;
      readonly from: number;
      readonly size: number;
      readonly out: Value;
    }
  /**
   * Softmax over all of logits [rows, experts], and the k largest of it: largest first, ties by the lowest id. out
   * [rows, 2k], "picks": k ids as whole numbers, then their k weights, divided by their sum if `normalise`, then times
   * weights[id] where there is such a vector [experts]. Where logits are NaN ids are still below `experts`, weights NaN.
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
   * A product with the picked experts' matrices: weight [experts * R, C], of expert e the rows from e * R; bias, a vector
   * [experts * R], likewise. x [rows, C], which all picks of a row read, or [rows, k, C], of which pick k reads its own.
   * picks: out of `route`. out [rows, k, R]. Only picked experts' weights are read.
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
  /** x [rows, k, C]; out [rows, C] = sum over k, in order, of pick k's weight times x_k. picks: out of `route`. */
  | { readonly op: "combine"; readonly x: Value; readonly picks: Value; readonly out: Value }
  /**
   * x, out [tokens, C]: over each text's tokens and those before them, out[t, c] = sum over j of weight[c * kernel + j]
   * x[t - kernel + 1 + j, c], then silu where asked; before a text's first token x is 0. kernel: 2 to MOST_KERNEL. State
   * [kernel - 1, C]: the last inputs, oldest first.
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
   * The gated delta rule (arXiv 2412.06464), token by token. x [tokens, q | k | v]: q, k [keyHeads, keyDim], v [valueHeads,
   * valueDim]; a, b [tokens, valueHeads]; rates, bias: vectors [valueHeads]. Value head h reads key head h % keyHeads if
   * `tiled`, else h / (valueHeads / keyHeads). q and k are divided by sqrt(sum of squares + epsilon), q also by
   * sqrt(keyDim). S [valueDim, keyDim] of a head: S = e^(rates * ln(1 + e^(a + bias))) S; S += (v - S k) k^T / (1 + e^-b);
   * out [tokens, valueHeads, valueDim] = S q. State [valueHeads, valueDim, keyDim].
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
  /** Of each run the last `outputs` rows of x, in the order of the runs. */
  | { readonly op: "takeOutputs"; readonly x: Value; readonly out: Value };

export interface Graph {
  readonly maxTokens: number;
  readonly maxOutputs: number;
  /** Rows of the page tables: how many texts a device knows at once. */
  readonly texts: number;
  /** Pages of one text in a table: its positions are below blocks * PAGE_SLOTS. */
  readonly blocks: number;
  readonly pools: readonly Pool[];
  /** One of the pools: pages of vectors as they come, of all caches with a packing. null: there are none. */
  readonly recent: Pool | null;
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
  /** What a step is for. */
  readonly logits: Value;
  /** Values that were given a name and stay readable after a step. */
  readonly labels: ReadonlyMap<string, Value>;
}

/** Bytes that a device will hold for a graph, before anything is allocated. */
export interface Footprint {
  /** By weight id. */
  readonly weights: readonly number[];
  /** By cache id. */
  readonly caches: readonly number[];
  /** By state id: of all slots. */
  readonly states: readonly number[];
  readonly activations: number;
  /** Scratch of kernels, staging for loading, tables, code. */
  readonly workspace: number;
  readonly total: number;
  /** The largest single buffer, where the device limits those (Device.bufferBytes). */
  readonly largest?: { readonly label: string; readonly bytes: number };
}

/** What a device may hold of a memory that others use, too. */
export interface DeviceMemory {
  readonly bytes: number;
  /** Who says so: "nvidia-smi". */
  readonly source: string;
}

export interface Device {
  /** "reference", "wasm", ... */
  readonly name: string;
  /** What will compute, for people: "wasm, relaxed SIMD, 2 threads". */
  readonly description: string;
  /** The most that one allocation may hold, in bytes. */
  readonly memoryBytes: number;
  /** What there is of memory, as found when the device was opened; null: the machine does not say. */
  readonly memory?: DeviceMemory | null;
  /** Which of several sets of kernels it uses, and milliseconds of each where they were timed when it was opened. */
  readonly kernels?: {
    readonly set: string;
    readonly sets: readonly string[];
    readonly ms: { readonly [set: string]: number } | null;
  };
  /** The most that one buffer may hold, in bytes; absent: no such limit. */
  readonly bufferBytes?: number;
  /** Tokens of a prompt that it reads best at once; a plan's default. */
  readonly chunk: number;
  /** Weights that may be loaded at once; default 1. Pieces on their way take no more memory. */
  readonly loads?: number;
  /** It can choose ids: runs may have `sampling`, and CHOSEN among their ids. */
  readonly chooses: boolean;
  /** It can wait for the host after each appendKv of a step. Default: it cannot. */
  readonly pauses?: boolean;
  /** Formats of vectors that the device has kernels for, by name; null: any codec, packed ones, too. */
  readonly kvFormats: readonly string[] | null;
  /** Parts of packed formats that it has kernels for, as descriptions have them: "4c". Absent: none. */
  readonly kvParts?: { readonly [part in KvPart]: readonly string[] };
  /** It has takeTurned, and attends to caches with a Cache.turned. Default: it does not. */
  readonly oneVector?: boolean;
  /** The format that suits it best. Default: DEFAULT_KV of src/cache. */
  readonly defaultKv?: string;
  measure(graph: Graph): Footprint;
  allocate(graph: Graph): Promise<Allocation>;
}

/**
 * Everything of one graph on one device. Calls take effect in the order in which they are made: a step sees the tables and
 * pages as they were set before it. One call at a time, but for what a step chose and for loads (`Device.loads`).
 */
export interface Allocation {
  readonly footprint: Footprint;
  /** Fills a weight from its tensor, in bounded pieces. `onBytes` counts file bytes as they arrive. A table stays there. */
  load(weight: Weight, tensor: Tensor, onBytes?: (bytes: number) => void): Promise<void>;
  /**
   * Resolves when the device can take another call: the step may still be under way. `Ran.chosen` has what it chose.
   * ArgumentError for a step that the graph was not made for; nothing has run then.
   * afterAppend: only on devices that pause (`Device.pauses`), which wait for it before anything reads what was appended.
   */
  run(step: Step, afterAppend?: AfterAppend): Promise<Ran>;
  /** The pages of blocks first, first + 1, ... of a text, for the steps that follow. */
  setPages(pool: Pool, text: number, first: number, pages: ArrayLike<number>): void;
  /** Page `to` becomes what page `from` is, in every cache of the pool. */
  copyPage(pool: Pool, from: number, to: number): Promise<void>;
  /**
   * What pages hold of one KV head's keys or values, in the codec's bytes [pages, PAGE_SLOTS, vectorBytes], packed pages as
   * [pages, pageBytes]. Many at a time: on a GPU a call is one wait.
   */
  readPages(place: PagePlace, pages: readonly number[]): Promise<Uint8Array>;
  /** Fills them with the same. */
  writePages(place: PagePlace, pages: readonly number[], bytes: Uint8Array): Promise<void>;
  /** What a slot holds of a state: its f32 numbers in the order of the operation that owns it, whatever the device. */
  readState(state: State, slot: number): Promise<Uint8Array>;
  /** Fills it with the same. */
  writeState(state: State, slot: number, bytes: Uint8Array): Promise<void>;
  /** The rows of a value that the last step wrote, as a copy; `rows` of them from `first`. */
  read(value: Value, first: number, rows: number): Promise<Float32Array>;
  /**
   * The largest logits of one output row of the last step, largest first, ties by the lowest id, without reading all:
   * `count` of them, or fewer where fewer are above -Infinity. Every NaN comes before the largest. null: it cannot give that many.
   */
  candidates?(row: number, count: number): Promise<{ ids: Uint32Array; logits: Float32Array }> | null;
  /** Whether the device can choose with these options; absent: never. */
  canChoose?(sampling: Sampling): boolean;
  /**
   * Where a step's time goes, on devices with a clock of their own: the step runs several times, and its tokens' keys
   * and values are written as by `run`. UnsupportedError when this adapter has no clock.
   */
  profile?(step: Step): Promise<StepProfile>;
  close(): Promise<void>;
}

/** The rows' keys and values stand in the cache: they may be read and written by `readPages` and `writePages`. */
export type AfterAppend = (cache: Cache) => Promise<void>;

/** A step that is under way. */
export interface Ran {
  /**
   * What the device chose for each output of runs with `sampling`, in their order; null where it could not (the kept words
   * are more than it sorts; a logit is NaN or infinite): the host reads the logits then, and CHOSEN is an arbitrary id until
   * one is chosen again.
   * Empty when no run has `sampling`. Rejects with the device's one error.
   */
  readonly chosen: Promise<readonly (number | null)[]>;
}

/** Medians of several runs, by the device's own clock. */
export interface StepProfile {
  /** The step as it runs. */
  readonly us: number;
  /**
   * In their order, each timed apart from the others, which costs a little: their sum is above `us`. bytes: of weights
   * and cache that it must read or write.
   */
  readonly dispatches: readonly { readonly label: string; readonly us: number; readonly bytes: number }[];
  /** What the device's memory gives at best, in bytes a second: a kernel that only reads, one that copies (both ways). */
  readonly readBytesPerSecond: number;
  readonly copyBytesPerSecond: number;
}

/** How a device chooses: what engine/sample.ts does with the same numbers. Sums in f32 may turn a tie another way. */
export interface Sampling {
  /** 0: the largest logit, of equals the first. */
  readonly temperature: number;
  /** 0: all. */
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly seed: number;
  /** Which of the seed's uniform numbers (uniform.ts) the id takes. */
  readonly draw: number;
}
