/**
 * Plans a MODEL or SHAPE by name, for this machine or one with another memory size (Node only). Chooses the default
 * device and memory; plan-table.ts makes the tables. Reads a file's header, no weights.
 */
import { existsSync } from "node:fs";
import { physicalCores } from "../../device/wasm/cores.ts";
import { type FindOptions, findModel, openToLook } from "../../engine/find-model.ts";
import { chooseKv } from "../../engine/kv-choice.ts";
import { anyGpu } from "../../engine/load.ts";
import { ownMemory, thisMachine } from "../../engine/machine.ts";
import type { PlannedDevice } from "../../engine/plan.ts";
import type { Checkpoint } from "../../format/checkpoint.ts";
import { ArgumentError } from "../../format/errors.ts";
import { isHubName } from "../../format/hub/name.ts";
import { openCheckpoint } from "../../format/open.ts";
import { openModel } from "../../model/model.ts";
import { shapedCheckpoint } from "../../model/shaped.ts";
import { SHAPES } from "../../model/shapes.ts";
import { type PlanTable, type PlanTableOptions, planTable } from "./plan-table.ts";
import { plannedCpu, plannedGpu } from "./planned.ts";
import { recommendedModel, type SuitedModel, suitedModels } from "./suited-models.ts";

/** Options of `planModel`. */
export interface PlanModelOptions extends PlanTableOptions, Pick<FindOptions, "offline" | "signal"> {
  /** Default: a GPU if there is one or if `memoryBytes` is given, else the CPU. */
  device?: "gpu" | "cpu";
  /** With a shape: the type of its matrices. Default q4_0. */
  type?: string;
}

/**
 * `name`: what `load` takes, or a shape. memoryBytes: default what this machine's device may use, if that is known, as
 * in `load`. Throws what opening a file throws, and ArgumentError, UnsupportedError for wrong options.
 */
export async function planModel(name: string, options: PlanModelOptions = {}): Promise<PlanTable> {
  const checkpoint = await openNamed(name, options);
  try {
    const model = await openModel(checkpoint);
    // A shape has no weights to look at.
    const device = await plannedDevice(options);
    const kv = options.kv ?? (isShape(name) ? undefined : await chooseKv(model, device));
    return planTable(model, device, { ...options, kv });
  } finally {
    await checkpoint.close();
  }
}

function isShape(name: string): boolean {
  return Object.hasOwn(SHAPES, name) && !existsSync(name);
}

async function openNamed(name: string, options: PlanModelOptions): Promise<Checkpoint> {
  const { type } = options;
  if (isShape(name)) return shapedCheckpoint(name, { type });
  if (type !== undefined)
    throw new ArgumentError("type", type, "nothing without a shape: a file has its own");
  if (isHubName(name)) return (await openToLook(name, options)).checkpoint;
  const path = await findModel(name).catch((error) => {
    if (!(error instanceof ArgumentError)) throw error;
    throw new ArgumentError("model", name, `${error.allowed}; or a shape: ${Object.keys(SHAPES).join(", ")}`);
  });
  return openCheckpoint(path);
}

/**
 * The models of the catalog that suit this machine, or one with this much memory, and the name to begin with; null:
 * none fits.
 */
export async function modelsForMachine(options: Pick<PlanModelOptions, "memoryBytes"> = {}): Promise<{
  readonly device: string;
  readonly models: readonly SuitedModel[];
  readonly recommended: string | null;
}> {
  const device = await plannedDevice(options);
  const models = await suitedModels(device, options);
  const entry = await recommendedModel(device, options);
  return { device: device.description, models, recommended: entry?.name ?? null };
}

/** This machine's GPU with its own limits; otherwise a typical one. */
async function plannedDevice({ device, memoryBytes }: PlanModelOptions): Promise<PlannedDevice> {
  if (device !== undefined && device !== "gpu" && device !== "cpu")
    throw new ArgumentError("device", device, "gpu, cpu");
  const found = device === "cpu" ? null : await anyGpu();
  if (found) return found;
  return device === "gpu" || (device === undefined && memoryBytes !== undefined)
    ? { ...plannedGpu(), memory: thisMachine().gpuMemory }
    : { ...plannedCpu(physicalCores()), memory: ownMemory() };
}
