/**
 * Copies words of one GPU buffer to the host, repeatedly, while later submits overwrite it: through a few mappable
 * buffers.
 */
import { MAP_READ } from "./flags.ts";
import type { Gpu } from "./gpu.ts";
import { MAPPABLE } from "./read-back.ts";

export class WordsBack {
  readonly #free: GPUBuffer[] = [];
  readonly #bytes: number;

  /** From byte `offset` of `source` to its end. */
  constructor(
    readonly gpu: Gpu,
    readonly source: GPUBuffer,
    readonly offset: number,
    readonly label = "words back",
  ) {
    this.#bytes = source.size - offset;
  }

  /**
   * Encodes the copy of the first `count`. The returned function is called after the submit, and resolves when that is
   * done.
   */
  encode(encoder: GPUCommandEncoder, count: number): () => Promise<Uint32Array> {
    const { device } = this.gpu;
    const buffer =
      this.#free.pop() ?? device.createBuffer({ label: this.label, size: this.#bytes, usage: MAPPABLE });
    encoder.copyBufferToBuffer(this.source, this.offset, buffer, 0, count * 4);
    return () => this.#read(buffer, count);
  }

  async #read(buffer: GPUBuffer, count: number): Promise<Uint32Array> {
    const { gpu } = this;
    try {
      await buffer.mapAsync(MAP_READ);
    } catch (cause) {
      throw await gpu.failure("reading back", cause);
    }
    const words = new Uint32Array(buffer.getMappedRange(0, count * 4)).slice();
    buffer.unmap();
    this.#free.push(buffer);
    gpu.check();
    return words;
  }
}
