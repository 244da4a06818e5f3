/**
 * The contract between a model and whatever computes it. A forward pass is a `Graph`: a list of operations over
 * activations, weights and caches, recorded once. A device measures it (pure), allocates all of it at once, loads
 * weights, and then runs steps; nothing is allocated during a step and reading back is the only await. Several texts
 * share weights and activations; each is a timeline with caches of its own, and a step belongs to one.
 * Refuses to know: model families, files' names, text. The meaning of every operation is `reference/`.
 */
import type { Tensor, TensorType } from "../format/tensor.ts";

/** A step works on `tokens` new tokens and gives logits for the last `outputs` of them (0 while a prompt is read). */
export interface Step {
  /** Ids of the new tokens, at most graph.maxTokens. */
  readonly ids: Uint32Array;
  /** Position of ids[0]; the caches hold every position below it that their window still needs. */
  readonly position: number;
  /** How many of the last tokens reach the output; at most graph.maxOutputs. */
  readonly outputs: number;
  /** Whose caches: 0 to graph.timelines - 1. Default 0. */
  readonly timeline?: number;
}

/** An activation [tokens or outputs, cols] f32. */
export interface Value {
  readonly id: number;
  readonly rows: "tokens" | "outputs";
  readonly cols: number;
}

/**
 * A matrix [rows, cols] that stays in its file type, or a vector (norm weights, biases) [1, cols] held as f32.
 * Activations are multiplied as y[t, row] = sum over col of weight[row, col] x[t, col].
 */
export interface Weight {
  readonly id: number;
  readonly name: string;
  readonly role: "matrix" | "vector";
  readonly type: TensorType;
  readonly rows: number;
  readonly cols: number;
}

export type KvPart = "keys" | "values";

/**
 * How one head vector of keys or values is held. The codec owns its bytes: the reference device encodes and decodes
 * through it; fast devices have kernels for the formats that they name and refuse others.
 */
export interface KvCodec {
  readonly name: string;
  vectorBytes(headDim: number): number;
  /** vector [headDim] f32 -> vectorBytes bytes. Errors count otherwise in keys than in values: a format may tell them apart. */
  encode(vector: Float32Array, bytes: Uint8Array, part: KvPart): void;
  decode(bytes: Uint8Array, vector: Float32Array): void;
}

/** Keys and values of one layer: `capacity` token slots, used as a ring (position p in slot p % capacity). */
export interface Cache {
  readonly id: number;
  readonly layer: number;
  readonly codec: KvCodec;
  readonly kvHeads: number;
  readonly headDim: number;
  /** A multiple of 32. */
  readonly capacity: number;
  /** A query at position i sees positions j with i - j < window; null: all. */
  readonly window: number | null;
}

/**
 * Rotary position embedding of pairs (i, i + count): pair i at position p turns by p * frequencies[i] radians.
 * (RoFormer, arXiv 2104.09864, in the "halves" pairing.)
 */
export interface Rope {
  readonly id: number;
  /** [rotated dims / 2] radians per position, scaling already applied. */
  readonly frequencies: Float64Array;
  /** Factor on the rotated vector (YaRN's attention factor); 1 otherwise. */
  readonly magnitude: number;
}

export type Activation = "silu" | "geluTanh";

export type Op =
  /** out = table[id] * scale */
  | { readonly op: "embed"; readonly table: Weight; readonly scale: number; readonly out: Value }
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
  /** keys, values [tokens, kvHeads, headDim] are quantized once and stored at the step's positions. */
  | { readonly op: "appendKv"; readonly keys: Value; readonly values: Value; readonly cache: Cache }
  /** queries [tokens, heads, headDim] over the cache: causal, windowed; softmax(scale q.k, soft-capped if > 0). */
  | {
      readonly op: "attend";
      readonly queries: Value;
      readonly heads: number;
      readonly cache: Cache;
      readonly scale: number;
      readonly softcap: number;
      readonly out: Value;
    }
  /** out = activation(gate) * up */
  | {
      readonly op: "gate";
      readonly gate: Value;
      readonly up: Value;
      readonly activation: Activation;
      readonly out: Value;
    }
  | { readonly op: "add"; readonly a: Value; readonly b: Value; readonly out: Value }
  /** out = cap * tanh(x / cap) */
  | { readonly op: "softcap"; readonly x: Value; readonly cap: number; readonly out: Value }
  /** The last `outputs` rows of x. */
  | { readonly op: "takeOutputs"; readonly x: Value; readonly out: Value };

export interface Graph {
  readonly maxTokens: number;
  readonly maxOutputs: number;
  /** How many times all caches are held. */
  readonly timelines: number;
  readonly ops: readonly Op[];
  readonly weights: readonly Weight[];
  readonly caches: readonly Cache[];
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
  /** By cache id, of all timelines together. */
  readonly caches: readonly number[];
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
  /** What there is of memory, where whoever opened the device has asked; null: the machine does not say. */
  readonly memory?: DeviceMemory | null;
  /** The most that one buffer may hold, in bytes; absent: no such limit. */
  readonly bufferBytes?: number;
  /** Tokens of a prompt that it reads best at once; a plan's default. */
  readonly chunk: number;
  /** KV formats that the device has kernels for; null: any codec. */
  readonly kvFormats: readonly string[] | null;
  measure(graph: Graph): Footprint;
  allocate(graph: Graph): Promise<Allocation>;
}

/** Everything of one graph on one device. One step at a time. */
export interface Allocation {
  readonly footprint: Footprint;
  /** Fills a weight from its tensor, in bounded pieces. `onBytes` counts file bytes as they arrive. */
  load(weight: Weight, tensor: Tensor, onBytes?: (bytes: number) => void): Promise<void>;
  run(step: Step): Promise<void>;
  /**
   * Timeline `to` gets the first `tokens` positions of timeline `from`, in every cache, without the host. Of a ring it
   * gets what that still holds of them.
   */
  copyCache(from: number, to: number, tokens: number): Promise<void>;
  /** What a cache holds, in the codec's bytes [slots, vectorBytes], whatever the device's own arrangement is. */
  readCache(range: CacheRange): Promise<Uint8Array>;
  /** Fills it with the same. */
  writeCache(range: CacheRange, bytes: Uint8Array): Promise<void>;
  /** The rows of a value that the last step wrote, as a copy; `rows` of them from `first`. */
  read(value: Value, first: number, rows: number): Promise<Float32Array>;
  /**
   * Generation that does not wait for the host, where the device can: the first id is sampled from row 0 of the last
   * step's logits, a step with that id runs at `position`, the next id is sampled from its logits, and so on. At most
   * `most` ids are chosen, and the last of them starts no step: positions up to position + most - 2 are written. No
   * other call but `close` is allowed until `stop` has resolved. null: not with these options.
   */
  continue?(options: ContinueOptions): Continuation | null;
  /**
   * The largest logits of the last step's row 0, largest first, of equals the lowest ids, without reading all: `count`
   * of them, or fewer where fewer are above -Infinity. null: not so many.
   */
  candidates?(count: number): Promise<{ ids: Uint32Array; logits: Float32Array }> | null;
  /**
   * Where a step's time goes, on devices with a clock of their own: the step runs several times, and its tokens' keys
   * and values are written as by `run`. UnsupportedError when this adapter has no clock.
   */
  profile?(step: Step): Promise<StepProfile>;
  close(): Promise<void>;
}

/** Token slots [first, first + slots) of one KV head's keys or values: whole blocks of 32. */
export interface CacheRange {
  readonly cache: Cache;
  readonly part: KvPart;
  readonly kvHead: number;
  readonly first: number;
  readonly slots: number;
  /** Default 0. */
  readonly timeline?: number;
}

export interface ContinueOptions {
  readonly sampling: Sampling;
  readonly position: number;
  readonly most: number;
  /** As the last step's. Default 0. */
  readonly timeline?: number;
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
  /** 0: the largest logit, of equals the first; NaN counts as -Infinity. */
  readonly temperature: number;
  /** 0: all. */
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly seed: number;
  /** Which of the seed's uniform numbers (uniform.ts) the first id takes; each id takes one. */
  readonly first: number;
}

/** A device that generates ahead of its reader by a few tokens. */
export interface Continuation {
  /**
   * The next id, in order; one call at a time, at most `most`. null: the device could not choose (the kept words are
   * more than it sorts). Then it has not been chosen, nothing follows, and the reader stops, runs the last token again
   * for its logits and chooses itself. Rejects with the DeviceError that ended it, the same on each further call.
   */
  next(): Promise<number | null>;
  /**
   * Starts no more steps, and resolves when those under way are done, with the position after the last token that the
   * caches were written for: steps of ids that nobody took count too. Never rejects; safe to call twice.
   */
  stop(): Promise<{ position: number }>;
}
