/**
 * The models of the catalog that fit a device, and the one to begin with. Computed by the planner from the models'
 * shapes, without a network.
 */
import { CATALOG, type CatalogEntry } from "../../engine/catalog.ts";
import { longest } from "../../engine/longest.ts";
import { limitsOf, type Plan, type PlannedDevice, planContext, shortfallOf } from "../../engine/plan.ts";
import { plannedModel } from "./planned.ts";
import { weightBytesOfToken } from "./token-bytes.ts";

/** Our order, newer and larger before older and smaller; the first of those that fit with space left is recommended. */
const PREFERRED = [
  ...["qwen-3.5-35b-a3b", "gemma-4-26b-a4b", "gpt-oss-20b", "qwen-3.5-9b", "qwen-3-8b", "gemma-4-e4b"],
  ...["qwen-3-4b", "llama-3.2-3b", "qwen-3-1.7b", "qwen-3-0.6b"],
];

/** A context with space for a document. */
const ROOMY = 16_384;
/** On a CPU that reads 20 GB/s this is near ten tokens per second. */
const CPU_BYTES = 2.5 * 2 ** 30;
const CONTEXTS = [2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144];

/** A model of the catalog, with the context that fits. */
export interface SuitedModel extends CatalogEntry {
  /** Weights on the device. */
  readonly weightBytes: number;
  /** Bytes of the weights that each token reads. */
  readonly tokenBytes: number;
  /** The longest of a ladder of contexts that fits with int4, at most the trained one; 0: none. */
  readonly context: number;
}

/** What a device can hold of each entry. `memoryBytes`: default what the device reports. */
export async function suitedModels(
  device: PlannedDevice,
  options: { memoryBytes?: number } = {},
  entries: readonly CatalogEntry[] = CATALOG,
): Promise<SuitedModel[]> {
  const limits = limitsOf(device, options);
  const found: SuitedModel[] = [];
  for (const entry of entries) {
    const model = await plannedModel(entry.shape, entry.type);
    const trained = model.config.trainedContext;
    const contexts = [...CONTEXTS.filter((context) => context < trained), trained];
    const plans = (context: number) => planContext(model, device, { context });
    const fits = (plan: Plan) => shortfallOf(plan, device, limits, 0) === null;
    const least = plans(contexts[0]);
    const count = fits(least)
      ? longest(contexts.length, (nth) => ({ fits: fits(plans(contexts[nth - 1])) }), { least: 1, step: 1 })
      : 0;
    const context = contexts[count - 1] ?? 0;
    const { weightBytes } = least;
    found.push({ ...entry, weightBytes, tokenBytes: weightBytesOfToken(least), context });
  }
  return found;
}

/** The one to begin with on this device; null: none fits. Plans no more than necessary. */
export async function recommendedModel(
  device: PlannedDevice,
  options: { memoryBytes?: number } = {},
): Promise<CatalogEntry | null> {
  const limits = limitsOf(device, options);
  for (const shape of PREFERRED) {
    const entry = CATALOG.find((each) => each.shape === shape)!;
    const plan = planContext(await plannedModel(shape, entry.type), device, { context: ROOMY });
    if (shortfallOf(plan, device, limits, 0) !== null) continue;
    if (device.name === "gpu" || weightBytesOfToken(plan) <= CPU_BYTES) return entry;
  }
  return null;
}
