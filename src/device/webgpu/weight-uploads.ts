/**
 * Packed rows on their way from the host's memory to the GPU's buffers. Staged: through a ring of mapped buffers, so that
 * memory is allocated and touched once. Direct: by writeBuffer, for which Dawn allocates, zeroes and frees memory each
 * time.
 */
import { MAP_WRITE, USAGE } from "./flags.ts";
import type { Gpu } from "./gpu.ts";

/** Bytes [from, from + bytes) of packed rows go to `at` in a buffer; all multiples of 4. */
export interface Upload {
  readonly to: GPUBuffer;
  readonly at: number;
  readonly from: number;
  readonly bytes: number;
}

export interface Uploads {
  /** The caller may reuse `packed` once this resolves. */
  write(packed: Uint8Array, uploads: readonly Upload[]): Promise<void>;
  /** Resolves when everything that is written is in the GPU's buffers, or cannot get there: see `Gpu.check`. */
  done(): Promise<unknown>;
  /** Frees memory. Later writes allocate it anew. */
  end(): void;
}

export class DirectUploads implements Uploads {
  constructor(readonly gpu: Gpu) {}

  async write(packed: Uint8Array, uploads: readonly Upload[]): Promise<void> {
    const { queue } = this.gpu.device;
    for (const { to, at, from, bytes } of uploads) queue.writeBuffer(to, at, packed, from, bytes);
    // Without a wait the queue would hold the whole model in host memory.
    await this.gpu.submitted();
  }

  async done(): Promise<void> {}

  end(): void {}
}

/** Buffers of the ring, each as large as a slab: the host writes one while the GPU reads the others. */
const STAGING = 4;

export class StagedUploads implements Uploads {
  /** Each resolves when its last write has been copied: to a mapped buffer, or to null if one has to be made. */
  #ring: Promise<GPUBuffer | null>[] = [];
  #next = 0;

  constructor(
    readonly gpu: Gpu,
    readonly buffers = STAGING,
  ) {}

  async write(packed: Uint8Array, uploads: readonly Upload[]): Promise<void> {
    const at = this.#next++ % this.buffers;
    const before = this.#ring[at] ?? Promise.resolve(null);
    const written = before.then((staging) => this.#write(staging, packed, uploads));
    this.#ring[at] = written.then((staging) => this.#mapped(staging)).catch(() => null);
    await written;
  }

  done(): Promise<unknown> {
    return Promise.all(this.#ring);
  }

  end(): void {
    this.#next = 0;
    // A buffer that is destroyed while it is being mapped would be an error.
    for (const staging of this.#ring.splice(0)) void staging.then((buffer) => buffer?.destroy());
  }

  async #write(used: GPUBuffer | null, packed: Uint8Array, uploads: readonly Upload[]): Promise<GPUBuffer> {
    const { gpu } = this;
    gpu.check();
    try {
      const staging = this.#largeEnough(used, packed.length);
      new Uint8Array(staging.getMappedRange(0, packed.length)).set(packed);
      staging.unmap();
      const encoder = gpu.device.createCommandEncoder();
      for (const { to, at, from, bytes } of uploads) encoder.copyBufferToBuffer(staging, from, to, at, bytes);
      gpu.device.queue.submit([encoder.finish()]);
      return staging;
    } catch (cause) {
      throw await gpu.failure("writing weights", cause);
    }
  }

  #largeEnough(used: GPUBuffer | null, size: number): GPUBuffer {
    if (used !== null && used.size >= size) return used;
    used?.destroy();
    const usage = USAGE.mapWrite | USAGE.copySource;
    return this.gpu.device.createBuffer({ label: "weights, staged", size, usage, mappedAtCreation: true });
  }

  async #mapped(staging: GPUBuffer): Promise<GPUBuffer> {
    await staging.mapAsync(MAP_WRITE).catch((cause) => this.gpu.failure("mapping", cause));
    return staging;
  }
}
