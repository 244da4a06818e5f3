/**
 * A fingerprint that shows whether two loaded models are the same, for data computed with one of them (saved caches).
 * It is cheap: it covers the config, each tensor's type and shape, and one row of each, not the file.
 */
import type { Graph } from "../device/contract.ts";
import { rowBytes } from "../format/tensor.ts";
import type { Model } from "./model.ts";

export interface Fingerprint {
  /**
   * Digest of the config and of the middle row of each of the graph's weights in its stored type: 32 hexadecimal
   * digits.
   */
  readonly model: string;
  /** Digest of the RoPE frequencies and magnitudes. */
  readonly rope: string;
}

/** Reads a few kilobytes of each weight, enough to tell apart two quantizations of a model or two fine-tunings. */
export async function fingerprint(model: Model, graph: Graph): Promise<Fingerprint> {
  const { name: _name, ...config } = model.config;
  // RoPE depends on the graph and has its own digest.
  const json = JSON.stringify(config, (key, value) => (key === "rope" ? value !== null : value));
  const parts: Uint8Array[] = [new TextEncoder().encode(json)];
  for (const weight of graph.weights) {
    const tensor = model.tensor(weight);
    const { type, rows, cols } = tensor;
    parts.push(new TextEncoder().encode(JSON.stringify([weight.name, type, rows, cols])));
    const row = new Uint8Array(rowBytes(type, cols));
    await tensor.readRows(Math.floor(rows / 2), 1, row);
    parts.push(row);
  }
  const turns = graph.ropes.flatMap(({ frequencies, magnitude }) => [...frequencies, magnitude]);
  return {
    model: await digest(parts),
    rope: await digest([new Uint8Array(Float64Array.from(turns).buffer)]),
  };
}

async function digest(parts: readonly Uint8Array[]): Promise<string> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  const found = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(found.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
