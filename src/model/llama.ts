/**
 * The Llama block: norm, attention, add; norm, gated feed-forward, add. Serves llama 2 and 3, Mistral, and Qwen 2
 * (biases on q, k, v) and Qwen 3 (norms on q and k), which differ only in biases and norms.
 * (Llama 2, arXiv 2307.09288; Mistral, 2310.06825; Qwen2, 2407.10671; Qwen3, 2505.09388)
 */
import type { Value } from "../device/contract.ts";
import type { Recorder } from "../device/recorder.ts";
import { attention, feedForward, logits, type Parts } from "./layers.ts";

export function llama(op: Recorder, parts: Parts): Value {
  const { layers, hidden, vocab, normEpsilon } = parts.config;
  const norm = (x: Value, name: string, layer?: number) =>
    op.rmsNorm(x, parts.vector(name, hidden, layer), normEpsilon);

  let x = op.embed(parts.matrix("embedding", vocab, hidden));
  for (let i = 0; i < layers; i++) {
    op.label(x, `hidden.${i}`);
    x = op.add(x, attention(op, parts, i, norm(x, "attentionNorm", i)));
    x = op.add(x, feedForward(op, parts, i, norm(x, "ffnNorm", i)));
  }
  const last = op.label(norm(op.takeOutputs(x), "outputNorm"), `hidden.${layers}`);
  return logits(op, parts, last);
}
