/**
 * Devices and models for planning that need not exist here: what a graph takes on the CPU or on a GPU, by the same
 * layout code that allocates, and models of known shapes without their files. Includes the assumptions about a typical
 * GPU. Pure, so that pages can plan for other machines.
 */
import { HAS_FORMATS as CPU_FORMATS } from "../../device/wasm/kv-layout.ts";
import { ALL_MEMORIES_BYTES, CPU_CHUNK, footprintOf, MEMORY_BYTES } from "../../device/wasm/program.ts";
import { BATCH_ROWS, FEW_BEFORE_STREAMS, SEVERAL_ROWS, type Traits } from "../../device/webgpu/gpu.ts";
import { gpuFormats } from "../../device/webgpu/kv.ts";
import { Measuring } from "../../device/webgpu/measure.ts";
import { GPU_CHUNK } from "../../device/webgpu/webgpu.ts";
import type { PlannedDevice } from "../../engine/plan.ts";
import { type Model, openModel } from "../../model/model.ts";
import { shapedCheckpoint } from "../../model/shaped.ts";

/** A model of one of SHAPES; type: of its matrices, default q4_0. Throws ArgumentError for unknown ones. */
export async function plannedModel(shape: string, type?: string): Promise<Model> {
  return openModel(await shapedCheckpoint(shape, { type }));
}

/** The CPU device with N threads, each with its own work area. */
export function plannedCpu(threads: number): PlannedDevice {
  return {
    name: "wasm",
    description: `the CPU, ${threads} thread${threads === 1 ? "" : "s"}`,
    memoryBytes: ALL_MEMORIES_BYTES,
    bufferBytes: MEMORY_BYTES,
    chunk: CPU_CHUNK,
    chooses: false,
    ...CPU_FORMATS,
    measure: (graph) => footprintOf(graph, threads),
  };
}

/**
 * Typical of current NVIDIA and AMD GPUs through Dawn; features change the activations' forms, not weights or cache.
 */
const TYPICAL: Traits = {
  ...{ f16: true, subgroup: 32, matrices: true, timestamps: true },
  ...{ few: FEW_BEFORE_STREAMS, several: SEVERAL_ROWS, batch: BATCH_ROWS },
};
/** Dawn's on Vulkan; Metal allows more. */
const BUFFER_BYTES = 2 ** 31 - 4;

/** A typical GPU. */
export function plannedGpu(traits: Traits = TYPICAL, bufferBytes = BUFFER_BYTES): PlannedDevice {
  const limits = { maxBufferSize: bufferBytes, maxStorageBufferBindingSize: bufferBytes };
  const measuring = new Measuring(traits, limits);
  const subgroups = traits.subgroup === null ? "no subgroups" : `subgroups of ${traits.subgroup}`;
  return {
    name: "gpu",
    description: `a typical GPU (${traits.f16 ? "f16" : "f32"}, ${subgroups}, buffers of ${(bufferBytes / 2 ** 30).toFixed(0)} GiB)`,
    memoryBytes: Number.MAX_SAFE_INTEGER,
    bufferBytes,
    chunk: GPU_CHUNK,
    chooses: true,
    ...gpuFormats(traits),
    measure: (graph) => measuring.footprint(graph),
  };
}
