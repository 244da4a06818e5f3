/**
 * What the dispatch lists of one program share, made by program.ts: buffers, traits, and the places of caches and
 * weights.
 */
import type { Graph } from "../contract.ts";
import type { CacheBuffers } from "./attend-options.ts";
import type { PlannedBuffer, Scratch } from "./dispatch.ts";
import type { Traits } from "./gpu.ts";
import type { WeightPlan } from "./weight-plan.ts";

export interface Shared {
  readonly graph: Graph;
  readonly traits: Traits;
  readonly weights: WeightPlan;
  /** The step's lists and the page tables. */
  readonly batch: PlannedBuffer;
  /** [texts] u32: the id chosen last for each. */
  readonly chosen: PlannedBuffer;
  /** By rope id: [maxTokens, 2, pairs] f32. */
  readonly angles: readonly PlannedBuffer[];
  /** By cache id. */
  readonly caches: readonly CacheBuffers[];
  /** By cache id: the unpacked vectors of a packed cache; else null. */
  readonly recentCaches: readonly (CacheBuffers | null)[];
  /** By state id: [stateSlots, values] f32. */
  readonly states: readonly PlannedBuffer[];
  /** By value id: logits and labelled values, f32 rows that stay readable. */
  readonly kept: ReadonlyMap<number, PlannedBuffer>;
  /** Bound where a variant writes nothing. */
  readonly spare: PlannedBuffer;
  activation: Scratch;
}
