/**
 * What fits, without anything that computes: what `import ... from "nibble-llm/plan"` gives, in Node and in pages. Plans are those
 * that the engine allocates by; a bundle of them has no kernels, neither WGSL nor WASM.
 *
 *     import { planTable, plannedGpu, plannedModel } from "nibble-llm/plan";
 *     const model = await plannedModel("llama-3.1-8b", "q4_k_m");
 *     const { formats } = planTable(model, plannedGpu(), { memoryBytes: 16 * 2 ** 30 });
 *     for (const { name, longestContext } of formats) console.log(name, longestContext);
 */
export { FORMAT_NAMES } from "./cache/format-layers.ts";
export { CATALOG, CATALOG_DATE, type CatalogEntry } from "./engine/catalog.ts";
export { type Plan, type PlannedDevice, type PlanOptions, planMemory } from "./engine/plan.ts";
export {
  ArgumentError,
  type ErrorCode,
  MemoryError,
  NibbleError,
  UnsupportedError,
} from "./format/errors.ts";
export type { LayerSpec, ModelConfig } from "./model/config.ts";
export type { Model } from "./model/model.ts";
export { SHAPES, type Shape } from "./model/shapes.ts";
export { type KvRate, kvBytes, kvRates, ratesByFormat } from "./study/plan/kv-bytes.ts";
export {
  type CachePart,
  type ContextRow,
  type ContextTable,
  type PlanTable,
  type PlanTableOptions,
  planTable,
  type StatePart,
  type WeightPart,
} from "./study/plan/plan-table.ts";
export { plannedCpu, plannedGpu, plannedModel } from "./study/plan/planned.ts";
export { type SuitedModel, suitedModels } from "./study/plan/suited-models.ts";
