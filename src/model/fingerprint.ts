/**
 * Whether two loaded models are one and the same, for what was computed with one of them. Cheap: the config, what each
 * tensor is, and one row of each, not the file.
 */
import type { Graph } from "../device/contract.ts";
import { rowBytes } from "../format/tensor.ts";
import type { Model } from "./model.ts";

export interface Fingerprint {
  /** Of config, and of the middle row of each of the graph's weights, in its file's type. 32 hexadecimal digits. */
  readonly model: string;
  /** Of the rotary embedding's frequencies and magnitudes. */
  readonly rope: string;
}

/** Reads a few kilobytes a weight: two quantizations of one model differ, and so do two fine-tunings. */
export async function fingerprint(model: Model, graph: Graph): Promise<Fingerprint> {
  const { name: _name, ...config } = model.config;
  // What turns is the graph's, and has a digest of its own.
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
