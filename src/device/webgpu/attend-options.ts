/**
 * What attention is asked for, in both modes, and the arithmetic that its kernels share: which positions a query sees, and
 * the scaling of scores. Refuses to know kernels.
 */
import { type Cache, PAGE_SLOTS } from "../contract.ts";
import type { Buffer, Mode } from "./dispatch.ts";
import type { Form } from "./forms.ts";
import type { Traits } from "./gpu.ts";

export interface AttendOptions {
  readonly traits: Traits;
  readonly mode: Mode;
  readonly cache: Cache;
  readonly heads: number;
  readonly scale: number;
  readonly softcap: number;
  /** [heads] f32: a score more for each head, without a value; null: none. */
  readonly sinks: Buffer | null;
  /** [tokens, heads, headDim] f32. */
  readonly queries: Buffer;
  /** `rq4` attends with rotated queries: appendKv has rotated these; else attention does. */
  readonly rotated: boolean;
  /** Whether keys and values are rotated, where the format does not say so: an f16 cache that `rq4` was expanded to. */
  readonly rotates?: boolean;
  readonly cacheKeys: Buffer;
  readonly cacheValues: Buffer;
  readonly batch: Buffer;
  /** Where the pool's tables begin in it. */
  readonly table: number;
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

/** Whether attention turns queries before the cache, and what it sums behind it. */
export function rotates({ rotates, cache }: AttendOptions): boolean {
  return rotates ?? cache.codec.name === "rq4";
}

/** Positions that a query sees: [from the page of the oldest, to the last]. */
export function visible({ pool: { window } }: Cache, position: number): { first: number; count: number } {
  const oldest = window === null ? 0 : Math.max(0, position + 1 - window);
  const first = oldest - (oldest % PAGE_SLOTS);
  return { first, count: position + 1 - first };
}

/** exp2 instead of exp, and no division before tanh: the two factors around the soft cap. */
export function scaling(scale: number, softcap: number) {
  return softcap > 0
    ? { scale: scale / softcap, cap: softcap * Math.LOG2E }
    : { scale: scale * Math.LOG2E, cap: 0 };
}
