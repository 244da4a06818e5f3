/**
 * One GPUDevice: its features, its pipelines (compiled once for each kernel and set of values) and its first error.
 * Every failure of the GPU (validation, memory, a lost device, closing) becomes one DeviceError here, which every later
 * call throws. So no caller waits for a result that never comes, or uses a wrong one. Web standards only.
 */
import { DeviceError } from "../../format/errors.ts";
import { COMPUTE } from "./flags.ts";
import type { KernelSource } from "./kernel-source.ts";
import { KERNELS } from "./kernels.ts";
import { type KernelSpec, shaderText } from "./wgsl.ts";

/** Features of a device, by which the variants of kernels are chosen. */
export interface Traits {
  /** shader-f16: arithmetic and storage in float16. */
  readonly f16: boolean;
  /** Lanes of a subgroup if its size is fixed; null: kernels reduce through workgroup memory. */
  readonly subgroup: number | null;
  /** Subgroup matrices of f16, 16x16x16 and 16x8x16, with f32 results. Implies `f16` and `subgroup`. */
  readonly matrices: boolean;
  /**
   * Subgroup matrices of f32, 8x8x8 (Metal), in subgroups of 32: for attention and products of prompts. Default: false.
   */
  readonly matrices8?: boolean;
  readonly timestamps: boolean;
  /** Most threads of a workgroup of matmulVector. Default: 256, which every device allows. */
  readonly threads?: number;
  /**
   * Products and attention of few rows use float arithmetic, because integer dot products are emulated. Default: false.
   */
  readonly floats?: boolean;
  /**
   * attendShort serves steps of single rows over int4 that see at most this many positions in total; 0 or absent: none.
   */
  readonly short?: number;
  /** Most rows of a step in the modes "few", "several" and "batch" (dispatch.ts: `Mode`). */
  readonly few: number;
  readonly several: number;
  readonly batch: number;
}

/** `false` turns off a feature that the adapter has: for comparisons, and to test every variant on one machine. */
export interface TraitOptions {
  f16?: boolean;
  subgroups?: boolean;
  matrices?: boolean;
  matrices8?: boolean;
  /** Replaces the default, and so does `short`. */
  floats?: boolean;
  short?: number;
  /** These replace FEW_ROWS or FEW_BEFORE_STREAMS, SEVERAL_ROWS and BATCH_ROWS. */
  few?: number;
  several?: number;
  batch?: number;
}

/**
 * The rows at which one kernel becomes slower than the next. Products of one step of Llama 3.1 8B, q4_0, on an H100,
 * ms, 2026-11-28 (bench rows `step`): 8 rows 5.8 with matmulFew and 6.9 with matmulBatch; 16 rows 10.3 and 7.1; 64 rows
 * 13 with matmulBatch and 23 with matmulMatrix. On an H200, 16 rows took 8.6 ms with matmulBatch and 6.9 with
 * matmulStream, which is faster from 5 rows on (STREAM_TOKENS). A device that has matmulStream uses it in a mode of its
 * own, "several".
 */
const FEW_ROWS = 8;
export const FEW_BEFORE_STREAMS = 4;
export const SEVERAL_ROWS = 16;
export const BATCH_ROWS = 64;

/**
 * Time of a step of one row without and with attendShort, us (H200, int4, 2026-11-29, bench/rows.js --short). 8B:
 * without context 2,419 and 2,262, after 256 positions 2,439 and 2,299, after 1,024 2,475 and 2,470. 1B: 840 and 764,
 * 843 and 788, 845 and 876.
 */
const SHORT_POSITIONS = 512;

/** Threads of a workgroup: WebGPU's default limit, and the most that is requested if a device allows more. */
export const DEFAULT_THREADS = 256;
const MOST_THREADS = 1024;

/** Bytes of workgroup memory that kernels with subgroup matrices may use; others stay within the default of 16 KiB. */
export const MATRIX_WORKGROUP_BYTES = 32_768;

const MATRIX_FEATURE = "chromium-experimental-subgroup-matrix" as GPUFeatureName;

/**
 * A call may fail before the loss of its device is reported. Its error waits this long for the report, which explains
 * it.
 */
const LOSS_MS = 100;
/** Most characters of a message from Dawn or the driver; Dawn quotes whole lines of shaders. */
const MOST_CHARACTERS = 400;

interface MatrixConfig {
  componentType: string;
  resultComponentType: string;
  M: number;
  N: number;
  K: number;
}

export function traitsOf(adapter: GPUAdapter, options: TraitOptions = {}): Traits {
  const { subgroupMinSize, subgroupMaxSize } = adapter.info;
  const has = (feature: string) => adapter.features.has(feature as GPUFeatureName);
  const f16 = options.f16 !== false && has("shader-f16");
  const fixed = subgroupMinSize === subgroupMaxSize && subgroupMinSize >= 4;
  const subgroup = options.subgroups !== false && has("subgroups") && fixed ? subgroupMinSize : null;
  const configs = (adapter.info as { subgroupMatrixConfigs?: readonly MatrixConfig[] }).subgroupMatrixConfigs;
  const fits = (columns: number) =>
    [...(configs ?? [])].some(
      ({ componentType, resultComponentType, M, N, K }) =>
        componentType === "f16" && resultComponentType === "f32" && M === 16 && N === columns && K === 16,
    );
  const multiplies =
    has(MATRIX_FEATURE) && adapter.limits.maxComputeWorkgroupStorageSize >= MATRIX_WORKGROUP_BYTES;
  const matrices =
    options.matrices !== false && f16 && subgroup !== null && multiplies && fits(16) && fits(8);
  const eight = [...(configs ?? [])].some(
    ({ componentType, resultComponentType, M, N, K }) =>
      componentType === "f32" && resultComponentType === "f32" && M === 8 && N === 8 && K === 8,
  );
  const matrices8 = options.matrices8 !== false && subgroup === 32 && multiplies && eight;
  // A GPU in software takes minutes to compile kernels that are unrolled for many tokens.
  const streams = matrices && subgroup === 32 && options.few === undefined;
  const { few = adapter.info.isFallbackAdapter ? 1 : streams ? FEW_BEFORE_STREAMS : FEW_ROWS } = options;
  const { several = streams ? SEVERAL_ROWS : few } = options;
  const { batch = adapter.info.isFallbackAdapter || options.few === 1 ? several : BATCH_ROWS } = options;
  // Dawn emulates integer dot products on Metal, whatever the GPU.
  const { floats = adapter.info.vendor === "apple", short = streams ? SHORT_POSITIONS : 0 } = options;
  const { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX } = adapter.limits;
  const mostThreads = Math.min(MOST_THREADS, maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX);
  // More threads were measured only on GPUs with these matrices.
  const threads = matrices ? mostThreads : DEFAULT_THREADS;
  return {
    ...{ f16, subgroup, matrices, matrices8, timestamps: has("timestamp-query"), floats, threads },
    ...{ few, several, batch },
    ...(short > 0 ? { short } : {}),
  };
}

/** The WGSL extensions that the traits need. */
function enablesOf({ f16, subgroup, matrices, matrices8 }: Traits): string[] {
  return [
    ...(f16 ? ["f16"] : []),
    ...(subgroup !== null ? ["subgroups"] : []),
    ...(matrices || matrices8 ? ["chromium_experimental_subgroup_matrix"] : []),
  ];
}

export class Gpu {
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();
  readonly #lost: Promise<unknown>;
  #error: DeviceError | null = null;

  private constructor(
    readonly device: GPUDevice,
    readonly traits: Traits,
    /** The adapter's name, for error messages. */
    readonly name: string,
    /** The object that the device came from. Dawn ends the process if it is collected while devices exist. */
    readonly root: unknown,
  ) {
    device.addEventListener("uncapturederror", (event) => {
      // Otherwise Dawn in Node prints the error on stdout, in the middle of an answer.
      event.preventDefault();
      this.#fail(oneLine(event.error));
    });
    this.#lost = device.lost.then(({ reason, message }) =>
      this.#fail(`the device was lost (${reason || "unknown"}): ${oneLine(message)}. Load the model again.`),
    );
  }

  /** limits: only those that a plan needs beyond WebGPU's defaults. Throws DeviceError if the adapter refuses. */
  static async open(
    adapter: GPUAdapter,
    traits: Traits,
    limits: Record<string, number> = {},
    root: unknown = null,
  ): Promise<Gpu> {
    const name = adapterName(adapter);
    const requiredFeatures: GPUFeatureName[] = [];
    if (traits.f16) requiredFeatures.push("shader-f16");
    if (traits.subgroup !== null) requiredFeatures.push("subgroups");
    if (traits.matrices || traits.matrices8) requiredFeatures.push(MATRIX_FEATURE);
    if (traits.timestamps) requiredFeatures.push("timestamp-query");
    const { threads = DEFAULT_THREADS } = traits;
    const wide = { maxComputeInvocationsPerWorkgroup: threads, maxComputeWorkgroupSizeX: threads };
    const requiredLimits = { ...limits, ...(threads > DEFAULT_THREADS ? wide : {}) };
    try {
      const device = await adapter.requestDevice({ requiredFeatures, requiredLimits });
      return new Gpu(device, traits, name, root);
    } catch (cause) {
      throw new DeviceError("gpu", `${name} cannot create a device: ${oneLine(cause)}`, { cause });
    }
  }

  /** Throws the device's first error, if there was one. Closing counts as an error. */
  check(): void {
    if (this.#error) throw this.#error;
  }

  /** Returns the device's error after a failed call. Waits a moment in case a loss of the device is reported. */
  async failure(doing: string, cause: unknown): Promise<DeviceError> {
    if (!this.#error) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const moment = new Promise((resolve) => {
        timer = setTimeout(resolve, LOSS_MS);
      });
      await Promise.race([this.#lost, moment]);
      clearTimeout(timer);
    }
    return this.#fail(`${doing} failed: ${oneLine(cause)}`, cause);
  }

  /**
   * Closes the innermost error scope and returns its error. A lost device may return null; `check` reports the loss.
   */
  scoped(): Promise<GPUError | null> {
    return this.device.popErrorScope().catch(() => null);
  }

  /** Waits for everything submitted so far. Never rejects; `check` throws what went wrong. */
  async submitted(): Promise<void> {
    await this.device.queue.onSubmittedWorkDone().catch((cause: unknown) => this.failure("waiting", cause));
  }

  /** Records that submitted work did not run to its end, so that no result on the GPU can be relied upon. */
  stopped(afterMs: number): void {
    const seconds = (afterMs / 1000).toFixed(1);
    this.#fail(
      `the GPU did not finish a step: after ${seconds} s its last kernel had not run. Drivers stop work that takes too long. End what else uses the GPU, and load the model again.`,
    );
  }

  #fail(found: string, cause?: unknown): DeviceError {
    this.#error ??= new DeviceError("gpu", `${this.name}: ${found}`, { cause });
    return this.#error;
  }

  /**
   * Compiled once for each kernel and set of values. Throws DeviceError with kernel and line if it does not compile.
   */
  pipeline(spec: KernelSpec): Promise<GPUComputePipeline> {
    const key = JSON.stringify([spec.kernel, spec.values, spec.libs ?? null]);
    let made = this.#pipelines.get(key);
    if (!made) {
      made = this.#compile(spec);
      this.#pipelines.set(key, made);
    }
    return made;
  }

  async #compile(spec: KernelSpec): Promise<GPUComputePipeline> {
    const code = shaderText(spec, enablesOf(this.traits));
    this.device.pushErrorScope("validation");
    const module = this.device.createShaderModule({ code, label: spec.kernel });
    const layout = this.device.createPipelineLayout({ bindGroupLayouts: [this.bindLayout(spec.kernel)] });
    const made = this.device
      .createComputePipelineAsync({ label: spec.kernel, layout, compute: { module, entryPoint: "main" } })
      .then(
        (pipeline) => ({ pipeline }),
        (error: unknown) => ({ error }),
      );
    const scoped = await this.scoped();
    const result = await made;
    this.check();
    if (!scoped && "pipeline" in result) return result.pipeline;
    const cause = scoped ?? ("error" in result && result.error);
    throw new DeviceError("gpu", `${this.name}: kernel ${spec.kernel} does not compile: ${oneLine(cause)}`, {
      cause,
    });
  }

  bindLayout(kernel: KernelSpec["kernel"]): GPUBindGroupLayout {
    let layout = this.#layouts.get(kernel);
    if (!layout) {
      const entries = (KERNELS[kernel] as KernelSource).bindings.map(([binding, type]) => ({
        binding,
        visibility: COMPUTE,
        buffer: { type },
      }));
      layout = this.device.createBindGroupLayout({ label: kernel, entries });
      this.#layouts.set(kernel, layout);
    }
    return layout;
  }

  /** Calls in progress fail. Safe to call twice. */
  close(): void {
    this.#error ??= new DeviceError("gpu", "the device is closed");
    this.device.destroy();
  }
}

/** Returns an error's message, or a string, in one line, without the places in Dawn's own source. */
export function oneLine(from: unknown): string {
  const { message = String(from) } = (from ?? {}) as { message?: string };
  const line = message
    .replace(/\n\s*at \S+ \([^)]*:\d+\)/g, "")
    .replace(/\s+/g, " ")
    .trim();
  return line.length > MOST_CHARACTERS
    ? `${line.slice(0, MOST_CHARACTERS)}...`
    : line || "no reason was given";
}

export function adapterName(adapter: GPUAdapter): string {
  const { description, device, vendor, architecture } = adapter.info;
  return device || description || [vendor, architecture].filter(Boolean).join(" ") || "an unnamed adapter";
}
