/**
 * The options of attention, and arithmetic that its kernels share: which positions a query sees, and the scaling of
 * scores.
 */
import { type Cache, PAGE_SLOTS } from "../contract.ts";
import type { Mode, PlannedBuffer, Scratch } from "./dispatch.ts";
import type { Form } from "./forms.ts";
import type { Traits } from "./gpu.ts";

/** PART of lib/spans.wgsl: all of a cache, or of a packed cache the part in packed pages or the rest. */
const PART_IDS = { all: 0, packed: 1, recent: 2 } as const;
type PackedPart = keyof typeof PART_IDS;

/** A cache's buffers. */
export interface CacheBuffers {
  readonly cache: Cache;
  readonly cacheKeys: PlannedBuffer;
  readonly cacheValues: PlannedBuffer;
  /** Where the pool's tables begin in `batch`. */
  readonly table: number;
}

export interface AttendOptions extends CacheBuffers {
  readonly traits: Traits;
  readonly mode: Mode;
  readonly heads: number;
  readonly scale: number;
  readonly softcap: number;
  /** [heads] f32: an additional score for each head, which has no value; null: none. */
  readonly sinks: PlannedBuffer | null;
  /** [tokens, heads, keyDim of the cache] f32. */
  readonly queries: PlannedBuffer;
  /** For a rotated cache. true: appendKv has rotated the queries, too; false: attention rotates them. */
  readonly queriesRotated: boolean;
  /**
   * Whether keys and values are rotated. Set for an f16 cache into which `rq4` was expanded; default: as the format
   * says.
   */
  readonly cacheRotated?: boolean;
  /** The part of the cache to attend to; default: all. */
  readonly part?: PackedPart;
  /** For a packed cache: positions at a text's beginning that are never packed. */
  readonly kept?: number;
  /** For a packed cache: the vectors that are not packed yet, as a cache of f16 in the pages of Graph.recentPool. */
  readonly recentCache?: CacheBuffers | null;
  readonly batch: PlannedBuffer;
  /** [tokens, heads * headDim] in `form`: f32, or q8 for few rows and f16 for many. */
  readonly out: PlannedBuffer;
  readonly form: Form;
  /** Most tokens of a step in this mode, and how many of them may attend in spans. */
  readonly maxTokens: number;
  readonly maxSpanned: number;
  /** Most positions of a text. */
  readonly mostPositions: number;
  /** For the part of a packed cache that is not packed yet: the most positions that a step finds in it. */
  readonly mostUnpacked?: number;
  /** Workgroups that a long context is divided into; for measuring. */
  readonly workgroups?: number;
  /** true: no subgroup matrices, even if the device has them; for measuring. */
  readonly plain?: boolean;
  readonly scratch: Scratch;
}

/** Whether the cache is rotated: attention takes rotated queries and rotates its sums back. */
export function isCacheRotated({ cacheRotated, cache }: AttendOptions): boolean {
  return cacheRotated ?? cache.codec.name === "rq4";
}

/** Constants of the kernels for a part. */
export function partConstants({ part = "all", kept = 0 }: Pick<AttendOptions, "part" | "kept">) {
  return { PART: PART_IDS[part], KEPT: kept };
}

/** A row, or rows at consecutive positions of one text. packed: the number of the text's positions in packed pages. */
export interface Seeing {
  readonly position: number;
  /** Default: 1. */
  readonly tokens?: number;
  readonly packed: number;
}

/**
 * Positions of a part of the cache that rows see: from the start of the page with the first row's oldest position, to
 * the last row's position.
 */
export function visible(
  { cache, part, kept = 0 }: Pick<AttendOptions, "cache" | "part" | "kept">,
  { position, tokens = 1, packed }: Seeing,
): number {
  const { window } = cache.pool;
  const oldest = window === null ? 0 : Math.max(0, position + 1 - window);
  const first = oldest - (oldest % PAGE_SLOTS);
  const end = position + tokens;
  const seen = (from: number, to: number) => Math.max(0, Math.min(to, end) - Math.max(from, first));
  if (part === "packed") return seen(kept, packed);
  return part === "recent" ? seen(0, kept) + seen(Math.max(kept, packed), end) : end - first;
}

/** The two factors around the soft cap, such that kernels use exp2 instead of exp and do not divide before tanh. */
export function scaling(scale: number, softcap: number) {
  return softcap > 0
    ? { scale: scale / softcap, cap: softcap * Math.LOG2E }
    : { scale: scale * Math.LOG2E, cap: 0 };
}
