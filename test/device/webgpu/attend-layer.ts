/**
 * One layer's cache and attention on a GPU for tests and the bench: the dispatches of attend.ts, run as the program runs
 * them. Expected values come from the reference attention over what the layer's buffers hold, read back and decoded.
 */
import { kvCodec } from "../../../src/cache/codecs.ts";
import type { Cache } from "../../../src/device/contract.ts";
import { attend as referenceAttend } from "../../../src/device/reference/ops.ts";
import { appendDispatch, type Heads } from "../../../src/device/webgpu/append.ts";
import { attendDispatches } from "../../../src/device/webgpu/attend.ts";
import type { Buffer, Dispatch, StepShape } from "../../../src/device/webgpu/dispatch.ts";
import type { Form } from "../../../src/device/webgpu/forms.ts";
import type { Gpu, Traits } from "../../../src/device/webgpu/gpu.ts";
import { KERNELS } from "../../../src/device/webgpu/kernels.ts";
import { kvBytes, kvFormat, readVector } from "../../../src/device/webgpu/kv.ts";
import type { KernelSource } from "../../../src/device/webgpu/wgsl.ts";

export interface Shape {
  format: string;
  heads: number;
  kvHeads: number;
  headDim: number;
  capacity: number;
  window?: number | null;
  softcap?: number;
}

export class AttendLayer {
  readonly cache: Cache;
  readonly #buffers = new Map<number, GPUBuffer>();
  readonly #planned: Buffer[] = [];
  readonly keys: Buffer;
  readonly values: Buffer;
  readonly spare: Buffer;

  constructor(
    readonly gpu: Gpu,
    readonly shape: Shape,
    readonly maxTokens: number,
  ) {
    const { format, kvHeads, headDim, capacity, window = null } = shape;
    this.cache = { id: 0, layer: 0, codec: kvCodec(format), kvHeads, headDim, capacity, window };
    const bytes = kvBytes(this.cache);
    this.keys = this.buffer("keys", bytes.keys);
    this.values = this.buffer("values", bytes.values);
    this.spare = this.buffer("spare", 16);
  }

  buffer(label: string, bytes: number, data?: Float32Array<ArrayBuffer>): Buffer {
    const planned = { id: this.#planned.length, label, bytes };
    this.#planned.push(planned);
    // GPUBufferUsage: copies, uniform where it is small enough, storage.
    const usage = 4 | 8 | 128 | (bytes <= 65_536 ? 64 : 0);
    const made = this.gpu.device.createBuffer({ label, size: Math.ceil(bytes / 16) * 16, usage });
    if (data) this.gpu.device.queue.writeBuffer(made, 0, data);
    this.#buffers.set(planned.id, made);
    return planned;
  }

  floats(label: string, data: Float32Array<ArrayBuffer>): Buffer {
    return this.buffer(label, data.byteLength, data);
  }

  /** keys, values [tokens, kvHeads, headDim] as they are; or through norms and a rope, with queries. */
  async append(
    position: number,
    tokens: number,
    keys: Heads,
    values: Heads["view"],
    more: Pick<Parameters<typeof appendDispatch>[0], "rope" | "queries">,
  ): Promise<void> {
    const dispatch = appendDispatch({
      cache: this.cache,
      keys,
      values,
      ...more,
      cacheKeys: this.keys,
      cacheValues: this.values,
      spare: this.spare,
      scratch: (label, bytes) => this.buffer(label, bytes),
    });
    await this.run([dispatch], { tokens, position, outputs: 0 });
  }

  /** queries [tokens, heads, headDim] at position. Gives what the kernel wrote, as words. */
  async attend(
    position: number,
    queries: Float32Array<ArrayBuffer>,
    mode: "decode" | "prompt",
    form: Form = "f32",
  ): Promise<Uint32Array> {
    const { heads, headDim, softcap = 0 } = this.shape;
    const tokens = queries.length / heads / headDim;
    const out = this.buffer("out", queries.byteLength + 16);
    const dispatches = attendDispatches({
      traits: this.gpu.traits,
      mode,
      cache: this.cache,
      heads,
      scale: 1 / Math.sqrt(headDim),
      softcap,
      queries: this.floats("queries", queries),
      cacheKeys: this.keys,
      cacheValues: this.values,
      out,
      form,
      maxTokens: this.maxTokens,
      rotated: false,
      scratch: (label, bytes) => this.buffer(label, bytes),
    });
    await this.run(dispatches, { tokens, position, outputs: 0 });
    return new Uint32Array((await this.read(out)).buffer);
  }

  async run(dispatches: readonly Dispatch[], step: StepShape): Promise<void> {
    const { device } = this.gpu;
    const stepBuffer = device.createBuffer({ size: 16, usage: 8 | 64 });
    device.queue.writeBuffer(stepBuffer, 0, Uint32Array.of(step.tokens, step.position, step.outputs, 0));
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const dispatch of dispatches) {
      const pipeline = await this.gpu.pipeline(dispatch.kernel);
      const params = device.createBuffer({ size: dispatch.params.byteLength, usage: 8 | 64 });
      device.queue.writeBuffer(params, 0, dispatch.params);
      const { bindings } = KERNELS[dispatch.kernel.kernel] as KernelSource;
      const entries = bindings.map(([binding, , name]) => {
        const planned = dispatch.buffers[name];
        const buffer =
          name === "params" ? params : name === "step" ? stepBuffer : this.#buffers.get(planned?.id)!;
        return { binding, resource: { buffer } };
      });
      const layout = this.gpu.bindLayout(dispatch.kernel.kernel);
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, device.createBindGroup({ layout, entries }));
      const groups = dispatch.workgroups(step);
      if (groups) pass.dispatchWorkgroups(...groups);
    }
    pass.end();
    device.queue.submit([encoder.finish()]);
  }

  async read(planned: Buffer): Promise<Uint8Array<ArrayBuffer>> {
    const { device } = this.gpu;
    const from = this.#buffers.get(planned.id)!;
    const back = device.createBuffer({ size: from.size, usage: 1 | 8 });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(from, 0, back, 0, from.size);
    device.queue.submit([encoder.finish()]);
    await back.mapAsync(1);
    this.gpu.check();
    return new Uint8Array(back.getMappedRange().slice(0));
  }

  /** Codec bytes of what the cache holds: (part, kvHead, slot) -> bytes. */
  async stored(): Promise<(part: "keys" | "values", kvHead: number, slot: number) => Uint8Array> {
    const buffers = { keys: await this.read(this.keys), values: await this.read(this.values) };
    const { kvHeads, headDim, capacity, format } = this.shape;
    const shape = { format: kvFormat(format), kvHeads, headDim, capacity };
    return (part, kvHead, slot) => readVector(shape, part, buffers[part], kvHead, slot);
  }

  /** Reference attention over the decoded cache. */
  async expected(position: number, queries: Float32Array): Promise<Float32Array> {
    const { heads, kvHeads, headDim, capacity, window = null, softcap = 0 } = this.shape;
    const stored = await this.stored();
    const reader = (part: "keys" | "values") => {
      const known = new Map<number, Float32Array>();
      return (kvHead: number, at: number, into: Float32Array) => {
        const key = at * kvHeads + kvHead;
        let vector = known.get(key);
        if (!vector) {
          vector = new Float32Array(headDim);
          this.cache.codec.decode(stored(part, kvHead, at % capacity), vector);
          known.set(key, vector);
        }
        into.set(vector);
      };
    };
    const out = new Float32Array(queries.length);
    const tokens = queries.length / heads / headDim;
    const scale = 1 / Math.sqrt(headDim);
    const shape = { tokens, position, heads, kvHeads, headDim, window, scale, softcap };
    referenceAttend(queries, reader("keys"), reader("values"), shape, out);
    return out;
  }
}

export const ATTEND_DIMS = [64, 80, 96, 128, 256, 512];

/** Every dispatch of a layer, in all forms that a device can ask for. */
export function attendDispatchesOf(traits: Traits, shape: Shape): Dispatch[] {
  const { format, heads, kvHeads, headDim, capacity, window = null, softcap = 0 } = shape;
  const cache = { id: 0, layer: 0, codec: kvCodec(format), kvHeads, headDim, capacity, window };
  let id = 0;
  const buffer = (label: string, bytes: number): Buffer => ({ id: id++, label, bytes });
  const any = buffer("any", 16);
  const view = { buffer: any, offset: 0, stride: heads * headDim };
  const common = { traits, cache, cacheKeys: any, cacheValues: any, spare: any, scratch: buffer };
  const attend = { ...common, heads, scale: 1, softcap, queries: any, rotated: false, out: any };
  const norm = { weight: any, epsilon: 1e-6 };
  const rope = { turns: any, pairs: headDim / 2 };
  const forms: ["decode" | "prompt", Form][] = [
    ["decode", "f32"],
    ["prompt", "f32"],
    ...(headDim % 32 === 0 ? ([["decode", "q8"]] as ["decode", Form][]) : []),
    ...(traits.matrices ? ([["prompt", "f16"]] as ["prompt", Form][]) : []),
  ];
  return [
    appendDispatch({
      ...common,
      keys: { view, norm },
      values: view,
      rope,
      queries: { view, norm, heads, out: any },
    }),
    appendDispatch({ ...common, keys: { view, norm: null }, values: view, rope: null, queries: null }),
    ...forms.flatMap(([mode, form]) => attendDispatches({ ...attend, mode, form, maxTokens: 64 })),
  ];
}
