/** Small graphs and models for tests in which the GPU, not the arithmetic, is the matter. */
import { kvCodec } from "../../../src/cache/codecs.ts";
import type { Graph } from "../../../src/device/contract.ts";
import { Recorder } from "../../../src/device/recorder.ts";

/** Rows of the embedding table. */
export const VOCAB = 97;

/** Embedding -> logits; with caches of `capacity` tokens, 128 bytes each, that nobody reads. */
export function smallGraph(layers = 0, capacity = 32): Graph {
  const op = new Recorder(4, 1);
  const x = op.embed(op.weight("table", "matrix", "q8_0", VOCAB, 64));
  for (let layer = 0; layer < layers; layer++) {
    const cache = op.cache({
      layer,
      codec: kvCodec("f16"),
      kvHeads: 1,
      headDim: 64,
      capacity,
      window: null,
    });
    op.appendKv(cache, x, x);
  }
  return op.finish(op.matmul(op.takeOutputs(x), op.weight("output", "matrix", "q8_0", VOCAB, 64)));
}
