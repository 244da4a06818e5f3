/**
 * One GPUDevice: which features it was given, pipelines by kernel and values (compiled once), buffers, and its first
 * error. Whatever goes wrong on the GPU (validation, memory, a lost device) becomes one DeviceError here, so that nobody
 * waits for a result that cannot come. Refuses to know operations. Web standards only.
 */
import { DeviceError } from "../../format/errors.ts";
import { KERNELS } from "./kernels.ts";
import { type KernelSource, type KernelSpec, shaderText } from "./wgsl.ts";

/** What kernels may count on; a kernel's variant is chosen by these. */
export interface Traits {
  /** shader-f16: arithmetic and storage in float16. */
  readonly f16: boolean;
  /** Lanes of a subgroup where it has one fixed size; null: kernels reduce through workgroup memory. */
  readonly subgroup: number | null;
  /** Subgroup matrices f16 16x16x16 with f32 results. Implies f16 and `subgroup`. */
  readonly matrices: boolean;
  readonly timestamps: boolean;
}

/** `false` refuses a feature that the adapter has: for comparing, and for testing every variant on one machine. */
export interface TraitOptions {
  f16?: boolean;
  subgroups?: boolean;
  matrices?: boolean;
}

/** Workgroup memory that kernels with subgroup matrices may use; others stay within the default of 16 KiB. */
export const MATRIX_WORKGROUP_BYTES = 32_768;

const MATRIX_FEATURE = "chromium-experimental-subgroup-matrix" as GPUFeatureName;

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
  const fits = (c: MatrixConfig) =>
    c.componentType === "f16" && c.resultComponentType === "f32" && c.M === 16 && c.N === 16 && c.K === 16;
  const matrices =
    options.matrices !== false &&
    f16 &&
    subgroup !== null &&
    has(MATRIX_FEATURE) &&
    adapter.limits.maxComputeWorkgroupStorageSize >= MATRIX_WORKGROUP_BYTES &&
    [...(configs ?? [])].some(fits);
  return { f16, subgroup, matrices, timestamps: has("timestamp-query") };
}

export class Gpu {
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();
  #error: DeviceError | null = null;
  #closing = false;

  private constructor(
    readonly device: GPUDevice,
    readonly traits: Traits,
    /** For errors and people: the adapter's name. */
    readonly name: string,
    /** What the device came from: Dawn takes the process down when its root is collected while devices live. */
    readonly root: unknown,
  ) {
    device.addEventListener("uncapturederror", ({ error }) => this.#fail(error.message));
    device.lost.then(({ reason, message }) => {
      if (!this.#closing) this.#fail(`the device was lost (${reason || "unknown"}): ${message}`);
    });
  }

  /** limits: only what a plan needs beyond WebGPU's defaults. DeviceError when the adapter refuses. */
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
    if (traits.matrices) requiredFeatures.push(MATRIX_FEATURE);
    if (traits.timestamps) requiredFeatures.push("timestamp-query");
    try {
      const device = await adapter.requestDevice({ requiredFeatures, requiredLimits: limits });
      return new Gpu(device, traits, name, root);
    } catch (cause) {
      throw new DeviceError("gpu", `${name} gives no device: ${(cause as Error).message}`, { cause });
    }
  }

  /** The first thing that went wrong, or null. */
  get error(): DeviceError | null {
    return this.#error;
  }

  /** Throws the first thing that went wrong. */
  check(): void {
    if (this.#error) throw this.#error;
  }

  #fail(message: string): void {
    this.#error ??= new DeviceError("gpu", `${this.name}: ${message.replace(/\s+/g, " ").trim()}`);
  }

  /** Compiled once for each set of values. DeviceError with kernel and line when it does not compile. */
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
    const { f16, subgroup, matrices } = this.traits;
    const enables = [
      ...(f16 ? ["f16"] : []),
      ...(subgroup !== null ? ["subgroups"] : []),
      ...(matrices ? ["chromium_experimental_subgroup_matrix"] : []),
    ];
    const code = shaderText(spec, enables);
    this.device.pushErrorScope("validation");
    const module = this.device.createShaderModule({ code, label: spec.kernel });
    const layout = this.device.createPipelineLayout({ bindGroupLayouts: [this.bindLayout(spec.kernel)] });
    const pipeline = this.device
      .createComputePipelineAsync({ label: spec.kernel, layout, compute: { module, entryPoint: "main" } })
      .then(
        (made) => made,
        (error: Error) => error,
      );
    const scoped = await this.device.popErrorScope();
    const made = await pipeline;
    const failed = scoped ?? (made instanceof Error ? made : null);
    if (failed || made instanceof Error)
      throw new DeviceError(
        "gpu",
        `${this.name}: kernel ${spec.kernel} does not compile: ${failed?.message}`,
      );
    return made;
  }

  bindLayout(kernel: KernelSpec["kernel"]): GPUBindGroupLayout {
    let layout = this.#layouts.get(kernel);
    if (!layout) {
      const entries = (KERNELS[kernel] as KernelSource).bindings.map(([binding, type]) => ({
        binding,
        // GPUShaderStage.COMPUTE; the namespace object is no global in Node.
        visibility: 4,
        buffer: { type },
      }));
      layout = this.device.createBindGroupLayout({ label: kernel, entries });
      this.#layouts.set(kernel, layout);
    }
    return layout;
  }

  close(): void {
    this.#closing = true;
    this.device.destroy();
  }
}

export function adapterName(adapter: GPUAdapter): string {
  const { description, device, vendor, architecture } = adapter.info;
  return device || description || [vendor, architecture].filter(Boolean).join(" ") || "an unnamed adapter";
}
