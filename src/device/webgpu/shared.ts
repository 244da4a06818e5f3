/**
 * What the dispatch lists of one program share, made by program.ts: buffers, traits, and the places of caches and
 * weights.
 */
import type { Graph } from "../contract.ts";
import type { CachePlace } from "./attend-options.ts";
import type { BlockPlan } from "./blocks.ts";
import type { Buffer } from "./dispatch.ts";
import type { Traits } from "./gpu.ts";

export interface Shared {
  readonly graph: Graph;
  readonly traits: Traits;
  readonly blocks: BlockPlan;
  /** The step's lists and the page tables. */
  readonly batch: Buffer;
  /** [texts] u32: the id chosen last for each. */
  readonly chosen: Buffer;
  /** By rope id: [maxTokens, 2, pairs] f32. */
  readonly angles: readonly Buffer[];
  /** By cache id. */
  readonly caches: readonly CachePlace[];
  /** By cache id: the unpacked vectors of a packed cache; else null. */
  readonly recents: readonly (CachePlace | null)[];
  /** By state id: [stateSlots, values] f32. */
  readonly states: readonly Buffer[];
  /** By value id: logits and labelled values, f32 rows that stay readable. */
  readonly kept: ReadonlyMap<number, Buffer>;
  /** Bound where a variant writes nothing. */
  readonly spare: Buffer;
  /** A new activation. */
  activation(label: string, bytes: number): Buffer;
}
