/**
 * Tiny checkpoints as folders in memory, in every spelling of config.json, with transformers' logits for them: written by
 * test/golden/configs/make.py, which makes the same weights of a tensor's name and shape as `values` does here.
 */
import { readFileSync } from "node:fs";
import { kvCodec } from "../../src/cache/codecs.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { openSafetensors } from "../../src/format/safetensors.ts";
import { type Model, openModel } from "../../src/model/model.ts";
import { memoryFolder } from "../format/memory-folder.ts";
import { writeSafetensors } from "../format/write-safetensors.ts";
import { setAllPages, withoutTokenizer } from "./golden.ts";

type Config = Record<string, unknown>;

export interface FolderCase {
  name: string;
  config: Config;
  /** Shapes by name; "*" stands for each layer. */
  tensors: Record<string, number[]>;
  /** [KEPT, vocab] */
  logits: Float32Array;
}

const TOKENS = 48;
export const KEPT = [20, 47];
const VOCAB = 64;

const folder = new URL("../golden/configs/", import.meta.url);
const written = JSON.parse(readFileSync(new URL("cases.json", folder), "utf8"));
const logits = readFileSync(new URL("logits.f32", folder));

/** The config that the cases of a model_type change. */
export const bases: Record<string, Config> = written.bases;

export const cases: FolderCase[] = written.cases.map(
  ([family, changes, table]: [string, Config, number], at: number) => {
    const values = KEPT.length * VOCAB;
    const bytes = logits.buffer.slice(logits.byteOffset + at * values * 4);
    return {
      name: `${family} ${JSON.stringify(changes)}`,
      config: changed(bases[family], changes),
      tensors: written.tensors[table],
      logits: new Float32Array(bytes, 0, values),
    };
  },
);

/** The tensors of a model_type's plain case. */
export const plainTensors = (family: string): Record<string, number[]> =>
  cases.find(({ name }) => name === `${family} {}`)!.tensors;

/** "absent" takes a key away. */
export function changed(base: Config, changes: Config): Config {
  return Object.fromEntries(
    Object.entries({ ...base, ...changes }).filter(([, value]) => value !== "absent"),
  );
}

/** `layers`: of the tensors, whatever the config says. */
export async function openFolder(
  config: Config,
  tensors: Record<string, number[]>,
  layers = 3,
): Promise<Model> {
  const entries = Object.entries(tensors).flatMap(([name, shape]) =>
    name.includes("*")
      ? Array.from({ length: layers }, (_, i) => [name.replace("*", `${i}`), shape] as const)
      : [[name, shape] as const],
  );
  const gemma = /^gemma[23]/.test(String(config.model_type));
  const bytes = writeSafetensors(
    Object.fromEntries(
      entries.map(([name, shape]) => [name, { dtype: "F32", shape, data: values(name, shape, gemma) }]),
    ),
  );
  const files = { "config.json": JSON.stringify(config), "model.safetensors": bytes };
  const { config: metadata, tensors: read, close } = await openSafetensors(memoryFolder(files));
  return openModel(withoutTokenizer({ kind: "safetensors", name: "folder", metadata, tensors: read, close }));
}

/** Logits of the tokens that are kept, on the reference device. */
export async function logitsOf(model: Model, below = model.config.vocab): Promise<Float32Array> {
  const graph = model.record({ context: 64, maxTokens: TOKENS, maxOutputs: TOKENS, codec: kvCodec("f32") });
  const allocation = await referenceDevice().allocate(graph);
  for (const weight of graph.weights) await allocation.load(weight, model.tensor(weight));
  setAllPages(graph, allocation);
  const ids = Uint32Array.from({ length: TOKENS }, (_, i) => (i * 37) % below);
  await allocation.run({ runs: [{ text: 0, ids, position: 0, outputs: TOKENS }] });
  const rows = await Promise.all(KEPT.map((row) => allocation.read(graph.logits, row, 1)));
  return Float32Array.from(rows.flatMap((row) => [...row]));
}

/** FNV-1a of the name starts xorshift32; 12 bits of each step are a value that float32 holds exactly. */
function values(name: string, shape: readonly number[], gemma: boolean): Uint8Array {
  let state = 2166136261;
  for (const byte of new TextEncoder().encode(name)) state = Math.imul(state ^ byte, 16777619);
  const middle = shape.length === 1 && /norm|scal/.test(name) && !gemma ? 1 : 0;
  const made = new Float32Array(shape.reduce((a, b) => a * b, 1));
  for (let i = 0; i < made.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    made[i] = ((state >>> 20) / 2048 - 1) * 0.5 + middle;
  }
  return new Uint8Array(made.buffer);
}
