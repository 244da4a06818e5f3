/**
 * What a lab knows, as data: specs, experiments, results and notes on them. Every entry is one JSON object, a line of
 * the journal and the unit of export and import; its `id` is a SHA-256 of its identity (spec.ts), so that
 * two labs can be merged by it.
 */

/** JSON that has one canonical form. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** How keys or values are held. */
export interface Part {
  /** "f16", "int4", ...; from outside "name@" and the first 12 hexadecimal digits of the file's SHA-256. */
  readonly method: string;
  /** Bits of a code; 16 for f16. */
  readonly bits: number;
  /** Values along the head under one scale; 0: the method's own. */
  readonly group: number;
  /** Seeded signs and a Hadamard transform before the method, undone after it. */
  readonly rotate: boolean;
  /** The calibrated mean of each channel is subtracted before the method and added after it. Keys only. */
  readonly mean: boolean;
}

/** What is measured: data, never code. */
export interface Spec {
  readonly keys: Part;
  readonly values: Part;
  /** First tokens of a text that stay f16: 0 to 32. */
  readonly sinks: number;
  /**
   * Newest tokens that stay f16: a multiple of 32. 0: a method that needs one token quantizes it as it comes, one that needs
   * a page quantizes it when it is full. Else: a page is quantized when all of it is older than the newest `recent` tokens.
   */
  readonly recent: number;
  /** The method sees keys times this, the model does not (fold). */
  readonly keyScale: number;
  /** Factor on the softmax scale, also of the f16 run that it is compared with. */
  readonly temperature: number;
  /**
   * The method sees the keys' calibrated mean times this, the model does not: a constant on all keys does not change a softmax.
   * 0 is what `mean` of a part does; 2 doubles the mean that a cache of this kind has to hold.
   */
  readonly keyMean: number;
  /** Layers [from, to) are quantized, the others stay f16; null: all. */
  readonly layers: readonly [number, number] | null;
  /** The method sees keys with this profile instead of the model's own, the model does not (transplant). Default: its own. */
  readonly keyProfile?: KeyProfile;
}

/**
 * The distribution of keys over the channels of each head, from the first layer to the last: a model with another number of heads
 * takes the nearest.
 */
export interface KeyProfile {
  readonly heads: readonly HeadProfile[];
}

/** A head's profile, in units of the keys' root mean square without their mean. */
export interface HeadProfile {
  /** Standard deviation of each rotary pair, from the fastest to the slowest, above 0. [1]: the same in all. */
  readonly gains: readonly number[];
  /** Mean of each pair's first channel, then of each one's second. null: the model's own, times the gains. */
  readonly means: readonly number[] | null;
}

/** One measurement: these fields are its identity (`experimentId`). */
export interface Experiment {
  readonly spec: string;
  /** Fingerprint. */
  readonly model: string;
  readonly text: string;
  /** Positions measured, from the text's `from` on. */
  readonly rung: number;
  /** Number of the rounding's draw: 0, 1, 2, ... */
  readonly draw: number;
  /** Version of what is measured: results of different versions are never paired. */
  readonly harness: number;
  /**
   * "gpu": a GPU's kernels read a cache of this format. Default: pages of an f16 cache were rewritten on a CPU. Results of the
   * two are never mixed.
   */
  readonly device?: "gpu";
}

/** Fields that analyses may select by. */
export type Measured = "cpu" | "gpu";

interface Stamp {
  readonly id: string;
  /** ISO time; never part of the id. */
  readonly at: string;
}

export interface ModelEntry extends Stamp {
  readonly kind: "model";
  readonly name: string;
  readonly family: string;
  /** Shape and calibrated statistics, by which `contrast` can group. */
  readonly facts: { readonly [key: string]: number | string | boolean | null };
  /** Profile of the model's keys. */
  readonly profile?: KeyProfile;
}

/** An excerpt of a text, or a question with its answer, in one model's tokens. Its id is a digest of ids and `from`. */
export interface TextEntry extends Stamp {
  readonly kind: "text";
  readonly name: string;
  readonly split: "search" | "holdout";
  readonly model: string;
  readonly tokens: number;
  /** The first measured position. */
  readonly from: number;
  /** The `tokens` ids, so that every worker with the model measures the same. */
  readonly ids: readonly number[];
}

export interface SpecEntry extends Stamp {
  readonly kind: "spec";
  readonly body: Spec;
  readonly label: string;
  /** Bits a value, all counted, at head size 128 and 4,096 tokens. */
  readonly keyBits: number;
  readonly valueBits: number;
  readonly bits: number;
}

/** A requested experiment. */
export interface ProposalEntry extends Stamp {
  readonly kind: "experiment";
  readonly experiment: Experiment;
  /** "model", "halving", "random", "human", "llm", "challenge", "cross", ... */
  readonly proposer: string;
  readonly reason: string;
  /** Id of the spec that it came from. */
  readonly parent: string | null;
  readonly study: string;
  /** Larger first. */
  readonly priority: number;
  /** What a worker must offer: "gpu", "model:<fingerprint>". */
  readonly needs: readonly string[];
}

export interface ResultEntry extends Stamp {
  readonly kind: "result";
  readonly experiment: string;
  /** KL divergence from f16 in nats: mean, standard error over positions, 99.9th percentile. */
  readonly klMean: number;
  readonly klError: number;
  readonly kl999: number;
  /** Share of positions with the same most likely token. */
  readonly sameTop: number;
  readonly ms: number;
  /** Base64 of KL by position, f32 little-endian. */
  readonly losses: string;
  /** Base64 of bits by position, the lowest of a byte first: 1 is the same most likely token. */
  readonly tops: string;
  /** SHA-256 of the losses' bytes. */
  readonly digest: string;
  readonly worker: string;
  readonly env: { readonly [key: string]: string };
}

export interface FailureEntry extends Stamp {
  readonly kind: "failure";
  readonly experiment: string;
  readonly outcome: "error" | "timeout" | "memory" | "lost";
  readonly error: string;
  readonly worker: string;
  readonly attempt: number;
  /** It is not tried again. */
  readonly final: boolean;
}

/** A dead experiment, or one that waits after failures, is tried again as if it were new. */
export interface RetryEntry extends Stamp {
  readonly kind: "retry";
  readonly experiment: string;
  readonly by: string;
}

export interface NoteEntry extends Stamp {
  readonly kind: "note";
  readonly note: "insight" | "hypothesis" | "finding" | "plateau";
  readonly body: string;
  readonly facets: { readonly [key: string]: Json };
  /** Ids of experiments or specs. */
  readonly evidence: readonly string[];
  readonly predicts: Prediction | null;
  readonly author: string;
}

/** Mean KL of spec `a` over that of spec `b` on a model is below this. */
export interface Prediction {
  readonly a: string;
  readonly b: string;
  readonly model: string;
  /** The device on which both are measured. Default: a CPU. */
  readonly device?: "gpu";
  readonly below: number;
}

export type Entry =
  | ModelEntry
  | TextEntry
  | SpecEntry
  | ProposalEntry
  | ResultEntry
  | FailureEntry
  | RetryEntry
  | NoteEntry;
