/** Small graphs and models for tests in which the GPU, not the arithmetic, is the matter. */
import { kvCodec } from "../../../src/cache/codecs.ts";
import { type Graph, PAGE_SLOTS } from "../../../src/device/contract.ts";
import { Recorder } from "../../../src/device/recorder.ts";

/** Rows of the embedding table. */
const VOCAB = 97;

/** Embedding -> logits; with caches of `slots` tokens, 128 bytes each, that nobody reads. Positions below 64. */
export function smallGraph(layers = 0, slots = 32, maxTokens = 4): Graph {
  const op = new Recorder(maxTokens, 1);
  const x = op.embed(op.weight("table", "matrix", "q8_0", VOCAB, 64));
  const pool = op.pool(null, slots / PAGE_SLOTS);
  for (let layer = 0; layer < layers; layer++) {
    const cache = op.cache({ layer, codec: kvCodec("f16"), kvHeads: 1, headDim: 64, pool });
    op.appendKv(cache, x, x);
  }
  const logits = op.matmul(op.takeOutputs(x), op.weight("output", "matrix", "q8_0", VOCAB, 64));
  return op.finish(logits, { blocks: 2 });
}
