/**
 * The WebGPU device: an adapter, and allocations that hold a compiled program's buffers and run its steps. One submit a
 * step, cached bind groups, nothing allocated. Owns the GPUDevice's life; a failure anywhere becomes one DeviceError.
 * Web standards only: Node's Dawn comes in as a `GPU` (dawn.ts), a browser's is navigator.gpu.
 */
import { ArgumentError, DeviceError, NibbleError } from "../../format/errors.ts";
import type { Tensor } from "../../format/tensor.ts";
import type { Allocation, Device, Footprint, Graph, Step, Value, Weight } from "../contract.ts";
import { writeTurns } from "../turns.ts";
import type { Buffer, Dispatch } from "./dispatch.ts";
import { adapterName, Gpu, type TraitOptions, type Traits, traitsOf } from "./gpu.ts";
import { KERNELS } from "./kernels.ts";
import { compileGraph, type GpuProgram } from "./program.ts";
import { ReadBack } from "./read-back.ts";
import { loadWeight } from "./weight-loading.ts";
import type { KernelSource } from "./wgsl.ts";

export interface WebgpuOptions {
  /** Refuses features that the adapter has; for tests and comparisons. */
  traits?: TraitOptions;
  /** false: refuses adapters that are programs, such as SwiftShader and llvmpipe. */
  software?: boolean;
}

/** Longest single buffer or binding of WebGPU's default limits. */
const DEFAULT_LIMITS = {
  maxBufferSize: 268_435_456,
  maxStorageBufferBindingSize: 134_217_728,
  maxComputeWorkgroupStorageSize: 16_384,
};
/** bufferUsage flags; the namespace object is no global in Node. */
const USAGE = { copySource: 4, copyTarget: 8, uniform: 64, storage: 128 };
/** Default tokens of a step: as many as the matrix kernels need to reach their speed; bench row `matmul` x 512. */
const CHUNK = 512;
/** Bytes of the step uniform: lib/step.wgsl. */
const STEP_BYTES = 16;

/** DeviceError when there is no adapter that computes. */
export async function webgpuDevice(gpu: GPU, options: WebgpuOptions = {}): Promise<Device> {
  const ask = () => gpu.requestAdapter({ powerPreference: "high-performance" });
  let adapter = await ask();
  if (!adapter) throw new DeviceError("gpu", "no WebGPU adapter was found; --device cpu works without one");
  const { software = true } = options;
  if (!software && adapter.info.isFallbackAdapter)
    throw new DeviceError("gpu", `${adapterName(adapter)} is a program, not a GPU`);
  const traits = traitsOf(adapter, options.traits);
  const name = adapterName(adapter);
  if (/null/i.test(adapter.info.device ?? "") && !adapter.info.vendor)
    throw new DeviceError("gpu", `the adapter ${name} computes nothing; --device cpu works without a GPU`);
  const { limits } = adapter;
  return {
    name: "gpu",
    description: `${name} through WebGPU${describe(traits)}`,
    memoryBytes: Number.MAX_SAFE_INTEGER,
    chunk: CHUNK,
    bufferBytes: Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize),
    kvFormats: ["int4", "f16"],
    measure: (graph) => compileGraph(graph, traits, limits).footprint,
    async allocate(graph) {
      const program = compileGraph(graph, traits, limits);
      // An adapter gives one device only.
      const used = adapter ?? (await ask());
      adapter = null;
      if (!used) throw new DeviceError("gpu", `the adapter ${name} is gone`);
      const opened = await Gpu.open(used, traits, neededLimits(program, traits, used.limits));
      try {
        return await WebgpuAllocation.create(graph, program, opened);
      } catch (error) {
        opened.close();
        throw error;
      }
    },
  };
}

function describe({ f16, subgroup, matrices }: Traits): string {
  const parts = [
    matrices ? "subgroup matrices" : f16 ? "f16" : "f32",
    subgroup ? `subgroups of ${subgroup}` : "no subgroups",
  ];
  return ` (${parts.join(", ")})`;
}

/** What the program needs beyond the defaults; 4 bytes of slack would be a waste, so exactly that. */
function neededLimits(program: GpuProgram, traits: Traits, has: GPUSupportedLimits): Record<string, number> {
  const largest = Math.max(...program.buffers.map(({ bytes }) => bytes));
  const wanted = {
    maxBufferSize: largest,
    maxStorageBufferBindingSize: largest,
    maxComputeWorkgroupStorageSize: traits.matrices
      ? Math.min(32_768, has.maxComputeWorkgroupStorageSize)
      : 0,
  };
  return Object.fromEntries(
    Object.entries(wanted).filter(
      ([key, value]) => value > DEFAULT_LIMITS[key as keyof typeof DEFAULT_LIMITS],
    ),
  );
}

/** A dispatch with everything that encoding it needs. */
interface Ready {
  readonly dispatch: Dispatch;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
}

export class WebgpuAllocation implements Allocation {
  readonly footprint: Footprint;
  readonly #readBack: ReadBack;
  /** The list that the last step ran, where its values lie. */
  #last: "decode" | "prompt" = "prompt";
  /** Work of the step before the last: at most two steps are under way, so that an abort does not wait for many. */
  #under: Promise<unknown>[] = [];
  #closed = false;

  private constructor(
    readonly graph: Graph,
    readonly program: GpuProgram,
    readonly gpu: Gpu,
    readonly buffers: ReadonlyMap<number, GPUBuffer>,
    readonly ready: Readonly<Record<"decode" | "prompt", readonly Ready[]>>,
    readonly stepBuffer: GPUBuffer,
  ) {
    this.footprint = program.footprint;
    this.#readBack = new ReadBack(gpu);
  }

  static async create(graph: Graph, program: GpuProgram, gpu: Gpu): Promise<WebgpuAllocation> {
    const { device } = gpu;
    const buffers = new Map<number, GPUBuffer>();
    device.pushErrorScope("out-of-memory");
    device.pushErrorScope("validation");
    const make = (label: string, bytes: number, usage: number) =>
      device.createBuffer({ label, size: Math.ceil(bytes / 16) * 16, usage });
    const storage = USAGE.storage | USAGE.copySource | USAGE.copyTarget;
    for (const { id, label, bytes } of program.buffers) buffers.set(id, make(label, bytes, storage));
    const lists = { decode: program.decode, prompt: program.prompt };
    const all = [...program.decode, ...program.prompt];
    const alignment = device.limits.minUniformBufferOffsetAlignment;
    const params = make("params", Math.max(1, all.length) * alignment, USAGE.uniform | USAGE.copyTarget);
    const stepBuffer = make("step", STEP_BYTES, USAGE.uniform | USAGE.copyTarget);
    const invalid = await device.popErrorScope();
    const noMemory = await device.popErrorScope();
    const failed = noMemory ?? invalid;
    if (failed) {
      const gib = (program.footprint.total / 2 ** 30).toFixed(2);
      throw new NibbleError(
        "memory",
        `${gpu.name} cannot hold the ${gib} GiB of weights, cache and workspace. Ask for a shorter --context or choose a smaller model. (${failed.message.split("\n")[0]})`,
      );
    }
    // All pipelines compile side by side.
    const pipelines = await Promise.all(all.map(({ kernel }) => gpu.pipeline(kernel)));
    device.pushErrorScope("validation");
    const written = new Uint8Array(params.size);
    const readies = all.map((dispatch, i): Ready => {
      written.set(new Uint8Array(dispatch.params.buffer), i * alignment);
      const { bindings } = KERNELS[dispatch.kernel.kernel] as KernelSource;
      const entries = bindings.map(([binding, , variable]): GPUBindGroupEntry => {
        if (variable === "params")
          return {
            binding,
            resource: { buffer: params, offset: i * alignment, size: dispatch.params.byteLength },
          };
        if (variable === "step") return { binding, resource: { buffer: stepBuffer } };
        const planned = dispatch.buffers[variable];
        if (!planned) throw new ArgumentError(`buffer of ${dispatch.label}`, variable, "a planned buffer");
        return { binding, resource: { buffer: buffers.get(program.place(planned).id)! } };
      });
      const layout = gpu.bindLayout(dispatch.kernel.kernel);
      const group = device.createBindGroup({ label: dispatch.label, layout, entries });
      return { dispatch, pipeline: pipelines[i], group };
    });
    device.queue.writeBuffer(params, 0, written);
    const wrong = await device.popErrorScope();
    if (wrong) throw new DeviceError("gpu", `${gpu.name}: ${wrong.message}`);
    const ready = {
      decode: readies.slice(0, lists.decode.length),
      prompt: readies.slice(lists.decode.length),
    };
    return new WebgpuAllocation(graph, program, gpu, buffers, ready, stepBuffer);
  }

  async load(weight: Weight, tensor: Tensor, onBytes?: (bytes: number) => void): Promise<void> {
    this.#check();
    await loadWeight(this.gpu, this.program.weight(weight), tensor, (b) => this.buffer(b), onBytes);
    this.#check();
  }

  async run(step: Step): Promise<void> {
    this.#check();
    const { graph } = this;
    const tokens = step.ids.length;
    if (!(tokens >= 1 && tokens <= graph.maxTokens))
      throw new ArgumentError("tokens of a step", tokens, `1 to ${graph.maxTokens}`);
    if (!(step.outputs >= 0 && step.outputs <= Math.min(tokens, graph.maxOutputs)))
      throw new ArgumentError(
        "outputs of a step",
        step.outputs,
        `0 to ${Math.min(tokens, graph.maxOutputs)}`,
      );
    if (this.#under.length > 1) await this.#under.shift();
    this.#check();
    this.gpu.device.queue.writeBuffer(this.buffer(this.program.ids), 0, step.ids as Uint32Array<ArrayBuffer>);
    this.submit({ tokens, position: step.position, outputs: step.outputs }, false);
    this.#under.push(this.gpu.device.queue.onSubmittedWorkDone());
  }

  /** Encodes and submits one step. sampled: its token is in the ids buffer already. `more` is encoded behind it. */
  submit(
    step: { tokens: number; position: number; outputs: number },
    sampled: boolean,
    more?: (encoder: GPUCommandEncoder) => void,
  ): void {
    const { device } = this.gpu;
    const { tokens, position, outputs } = step;
    device.queue.writeBuffer(this.stepBuffer, 0, Uint32Array.of(tokens, position, outputs, sampled ? 1 : 0));
    this.#writeTurns(step);
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    this.#last = this.listFor(step);
    for (const { dispatch, pipeline, group } of this.ready[this.#last]) {
      const groups = dispatch.workgroups(step);
      if (groups === null) continue;
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...groups);
    }
    pass.end();
    more?.(encoder);
    device.queue.submit([encoder.finish()]);
  }

  listFor({ tokens, outputs }: { tokens: number; outputs: number }): "decode" | "prompt" {
    return tokens === 1 && outputs <= 1 ? "decode" : "prompt";
  }

  async read(value: Value, first: number, rows: number): Promise<Float32Array> {
    this.#check();
    const buffer = this.program.kept(value);
    if (!buffer) throw new ArgumentError("value", value.id, "the logits or a labelled value");
    const bytes = await this.#readBack.read(
      this.buffer(buffer),
      first * value.cols * 4,
      rows * value.cols * 4,
    );
    this.#check();
    return new Float32Array(bytes);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const buffer of this.buffers.values()) buffer.destroy();
    this.gpu.close();
  }

  buffer(planned: Buffer): GPUBuffer {
    return this.buffers.get(this.program.place(planned).id)!;
  }

  #check(): void {
    if (this.#closed) throw new DeviceError("gpu", "the device is closed");
    this.gpu.check();
  }

  #writeTurns(step: { tokens: number; position: number }): void {
    for (const rope of this.graph.ropes) {
      const turns = new Float32Array(step.tokens * 2 * rope.frequencies.length);
      writeTurns(rope, step.position, step.tokens, turns);
      this.gpu.device.queue.writeBuffer(this.buffer(this.program.turns[rope.id]), 0, turns);
    }
  }
}
