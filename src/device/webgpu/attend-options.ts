/**
 * What attention is asked for, in both modes, and the arithmetic that its kernels share: which positions a query sees, and
 * the scaling of scores.
 */
import { type Cache, PAGE_SLOTS } from "../contract.ts";
import type { Buffer, Mode } from "./dispatch.ts";
import type { Form } from "./forms.ts";
import type { Traits } from "./gpu.ts";

/** Of lib/spans.wgsl: what of a packed cache lies in packed pages, and what does not yet. */
const PART_IDS = { all: 0, packed: 1, recent: 2 } as const;
type PackedPart = keyof typeof PART_IDS;

/** A cache's buffers. */
export interface CachePlace {
  readonly cache: Cache;
  readonly cacheKeys: Buffer;
  readonly cacheValues: Buffer;
  /** Where the pool's tables begin in `batch`. */
  readonly table: number;
}

export interface AttendOptions extends CachePlace {
  readonly traits: Traits;
  readonly mode: Mode;
  readonly heads: number;
  readonly scale: number;
  readonly softcap: number;
  /** [heads] f32: a score more for each head, without a value; null: none. */
  readonly sinks: Buffer | null;
  /** [tokens, heads, keyDim of the cache] f32. */
  readonly queries: Buffer;
  /** `rq4` attends with rotated queries: appendKv has rotated these; else attention does. */
  readonly rotated: boolean;
  /** Whether keys and values are rotated, where the format does not say so: an f16 cache that `rq4` was expanded to. */
  readonly rotates?: boolean;
  /** The cache's positions that this is about; default: all. */
  readonly part?: PackedPart;
  /** Of a packed cache, positions at a text's beginning that are never packed. */
  readonly kept?: number;
  /** Of a packed cache: where vectors lie that are not packed yet, as a cache of f16 over the pages of Graph.recent. */
  readonly recent?: CachePlace | null;
  readonly batch: Buffer;
  /** [tokens, heads * headDim] in `form`: f32, or q8 for few rows and f16 for many. */
  readonly out: Buffer;
  readonly form: Form;
  /** Most tokens of a step in this mode, and most of them that attend in spans. */
  readonly maxTokens: number;
  readonly maxSpanned: number;
  /** Positions that a text may reach. */
  readonly mostPositions: number;
  /** Workgroups that a long context is cut into; for measuring. */
  readonly workgroups?: number;
  /** Without subgroup matrices where there are; for measuring. */
  readonly plain?: boolean;
  scratch(label: string, bytes: number): Buffer;
}

/** Whether attention turns queries before the cache, and what it sums after it. */
export function rotates({ rotates, cache }: AttendOptions): boolean {
  return rotates ?? cache.codec.name === "rq4";
}

/** The values by which kernels know a part. */
export function partConstants({ part = "all", kept = 0 }: Pick<AttendOptions, "part" | "kept">) {
  return { PART: PART_IDS[part], KEPT: kept };
}

/** A row, or rows at consecutive positions of one text, of which `packed` positions lie in packed pages. */
export interface Seeing {
  readonly position: number;
  /** Default: 1. */
  readonly tokens?: number;
  readonly packed: number;
}

/** Positions of a part of the cache that rows see: from the page of the first one's oldest, to the last. */
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

/** exp2 instead of exp, and no division before tanh: the two factors around the soft cap. */
export function scaling(scale: number, softcap: number) {
  return softcap > 0
    ? { scale: scale / softcap, cap: softcap * Math.LOG2E }
    : { scale: scale * Math.LOG2E, cap: 0 };
}
