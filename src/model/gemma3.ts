/**
 * Gemma 3: the Llama block with a second norm after attention and after the feed-forward, norms on q and k, scaled
 * embeddings, GELU, and five sliding layers to one that sees everything. (arXiv 2503.19786)
 */
import type { Value } from "../device/contract.ts";
import type { Recorder } from "../device/recorder.ts";
import { attention, feedForward, logits, type Parts } from "./layers.ts";

export function gemma3(op: Recorder, parts: Parts): Value {
  const { layers, hidden, vocab, normEpsilon, embeddingScale } = parts.config;
  const norm = (x: Value, name: string, layer?: number) =>
    op.rmsNorm(x, parts.vector(name, hidden, layer), normEpsilon);

  let x = op.embed(parts.matrix("embedding", vocab, hidden), embeddingScale);
  for (let i = 0; i < layers; i++) {
    op.label(x, `hidden.${i}`);
    const attended = attention(op, parts, i, norm(x, "attentionNorm", i));
    x = op.add(x, norm(attended, "postAttentionNorm", i));
    const fed = feedForward(op, parts, i, norm(x, "ffnNorm", i));
    x = op.add(x, norm(fed, "postFfnNorm", i));
  }
  const last = op.label(norm(op.takeOutputs(x), "outputNorm"), `hidden.${layers}`);
  return logits(op, parts, last);
}
