/**
 * Converts a Hugging Face or MLX folder into what its GGUF would contain: architecture, tensors under GGUF's names and
 * conventions, keys. It uses gguf-file.ts's tables in the other direction. The result is read again as a GGUF, and its
 * config must equal the source's, so that the file never describes another model.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { FormatError, UnsupportedError } from "../format/errors.ts";
import type { GgufValue } from "../format/gguf-write.ts";
import type { Tensor } from "../format/tensor.ts";
import type { ModelConfig } from "./config.ts";
import { type Model, openModel } from "./model.ts";
import { type FoundTensor, findTensor, type Place, type Places } from "./names.ts";
import { Fields } from "./read.ts";
import { mapped } from "./tensors.ts";
import { metadataOf, type WrittenTensor, writtenKeys } from "./written-keys.ts";

export interface WrittenModel {
  readonly architecture: string;
  readonly keys: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly WrittenTensor[];
  readonly warnings: readonly string[];
}

/** Throws UnsupportedError if a GGUF cannot express the model. */
export async function writtenModel(model: Model): Promise<WrittenModel> {
  const { family, config, checkpoint } = model;
  const place = `${checkpoint.name}/config.json`;
  const modelType = new Fields(checkpoint.metadata, place).text("model_type");
  const architecture = family.folders[modelType].architecture ?? family.name;
  const rope = writtenKeys(config, architecture, checkpoint.metadata);
  const tensors = [...tensorsOf(model, architecture), ...rope.tensors];
  const all = [...rope.keys, ...(family.writtenKeys?.(config) ?? [])];
  const keys = new Map<string, GgufValue>([
    ["general.architecture", { string: architecture }],
    ["general.name", { string: config.name }],
    ...all.map(([key, value]): [string, GgufValue] => [`${architecture}.${key}`, value]),
  ]);
  const warnings = await check({ architecture, keys, tensors, warnings: [] }, config, checkpoint);
  return { architecture, keys, tensors, warnings };
}

/** The same as a checkpoint, without a file. */
export function asCheckpoint({ keys, tensors }: WrittenModel, name: string): Checkpoint {
  const none = () => Promise.reject(new FormatError(name, "no tokenizer"));
  return {
    ...{ kind: "gguf", name, metadata: metadataOf(keys), tokenizer: none, chatTemplate: async () => null },
    tensors: new Map(tensors.map((written) => [written.name, { ...written.tensor, name: written.name }])),
    close: async () => {},
  };
}

function* tensorsOf(model: Model, architecture: string): Generator<WrittenTensor> {
  const { family, config } = model;
  const { embedding, ...whole } = family.names.model;
  const key = (name: string, layer?: number) => `${layer ?? ""} ${name}`;
  const taken = new Set(model.taken.map(({ name, layer }) => key(name, layer)));
  const sources = new Set<string>();
  const done = new Set<string>();
  /**
   * The tensors that the graph uses, then others that the tables find in the file, such as factors that are read with
   * the config.
   */
  const all = function* (table: Readonly<Record<string, Places>>, layer?: number) {
    for (const isTaken of [true, false])
      for (const name of Object.keys(table)) {
        if (taken.has(key(name, layer)) !== isTaken) continue;
        const found = findTensor(model.checkpoint, family.names, config, name, layer);
        if (!found || (!isTaken && found.names.every((source) => sources.has(source)))) continue;
        for (const source of found.names) sources.add(source);
        const tensor = written(model, architecture, found, name, layer);
        if (done.has(tensor.name)) continue;
        done.add(tensor.name);
        yield tensor;
      }
  };
  yield* all({ embedding });
  for (let layer = 0; layer < config.layers.length; layer++) yield* all(family.names.layer, layer);
  yield* all(whole);
}

function written(
  { family, config, checkpoint }: Model,
  architecture: string,
  found: FoundTensor,
  name: string,
  layer?: number,
): WrittenTensor {
  const table = layer === undefined ? family.names.model : family.names.layer;
  const { kind, tensors } = checkpoint;
  const spec = config.layers[layer ?? 0];
  const of = { kind, tensors, name, config, layer: spec, architecture };
  const change = family.written ?? family.view ?? ((tensor: Tensor) => tensor);
  const { own, tensor } = placeOf(found, table[name], `${checkpoint.name}: ${found.names[0]}`);
  const path = layer === undefined ? own : `blk.${layer}.${own}`;
  return shaped(path, change.call(family, tensor, of), spec.feedForward.experts?.count ?? 1);
}

/** The tensor's place in a GGUF: the whole with the same cut as in the folder, or the part under its own name. */
function placeOf(
  found: FoundTensor,
  { gguf, folder }: Places,
  source: string,
): { own: string; tensor: Tensor } {
  const { place, tensor, whole } = found;
  const fused = gguf.find(
    (own) => typeof own !== "string" && typeof place !== "string" && own.take === place.take,
  );
  if (fused && typeof fused !== "string") return { own: fused.of, tensor: whole };
  const named = (own: Place | undefined): own is string => typeof own === "string" && !own.includes("*");
  // If a table has as many places for GGUF as for folders, they correspond in order.
  const twin = gguf.length === folder.length ? gguf[folder.indexOf(place)] : undefined;
  const own = named(twin) ? twin : gguf.find(named);
  if (own !== undefined) return { own, tensor };
  throw new UnsupportedError(`${source} in a GGUF`);
}

/** llama.cpp reads these as float32, whatever types the file has otherwise. */
const FLOATS = /ffn_gate_inp\.weight$|ssm_conv1d|\.scale$/;

function shaped(name: string, tensor: Tensor, experts: number): WrittenTensor {
  const { rows, cols } = tensor;
  const size = rows * cols;
  const isVector = rows === 1 || cols === 1;
  const ofExperts = /_exps\.(weight|bias)$/.test(name);
  const isMatrix = !isVector && !(ofExperts && name.endsWith("bias"));
  const dims = ofExperts
    ? isMatrix
      ? [cols, rows / experts, experts]
      : [size / experts, experts]
    : isVector
      ? [size]
      : [cols, rows];
  const plain = isMatrix && !FLOATS.test(name);
  return { name, dims, tensor: plain || tensor.type === "f32" ? tensor : mapped(tensor, (x) => x) };
}

/** Reads the result and compares it. Returns warnings for windows that GGUFs of the architecture cannot express. */
async function check(made: WrittenModel, config: ModelConfig, source: Checkpoint): Promise<string[]> {
  const { config: again } = await openModel(asCheckpoint(made, `${source.name} as GGUF`));
  const warnings: string[] = [];
  for (const { path, before, after } of differences(config, again, "")) {
    if (/^\.(family|name)$|\.tiled$/.test(path)) continue;
    if (path.endsWith(".window") && after === null) {
      const warning = `its layers have a window of ${before} tokens, which a GGUF of ${made.architecture} cannot express: in longer texts they attend to everything`;
      if (!warnings.includes(warning)) warnings.push(warning);
      continue;
    }
    throw new UnsupportedError(
      `${source.name}: ${path.slice(1)} ${before} in a GGUF of ${made.architecture}, where it would be ${after},`,
    );
  }
  return warnings;
}

/** Numbers are equal if float32 rounds them to the same value. */
const CLOSE = 1e-5;

function* differences(
  before: unknown,
  after: unknown,
  path: string,
): Generator<{ path: string; before: unknown; after: unknown }> {
  if (path === ".biases") {
    const [a, b] = [before, after].map((list) => [...(list as string[])].sort().join(" "));
    if (a !== b) yield { path, before: a, after: b };
  } else if (typeof before === "number" && typeof after === "number") {
    if (
      Math.abs(before - after) > CLOSE * Math.max(Math.abs(before), Math.abs(after)) &&
      Math.max(before, after) > 1e-29
    )
      yield { path, before, after };
  } else if (typeof before === "object" && typeof after === "object" && before && after) {
    for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
      const [a, b] = [before, after].map((value) => (value as Record<string, unknown>)[key]);
      // A factor of 1 may be left out.
      yield* differences(
        key === "magnitude" ? (a ?? 1) : a,
        key === "magnitude" ? (b ?? 1) : b,
        `${path}.${key}`,
      );
    }
  } else if (before !== after) yield { path, before, after };
}
