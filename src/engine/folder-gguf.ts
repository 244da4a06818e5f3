/**
 * Presents a Hugging Face or MLX folder as a GGUF: model, tokenizer, chat template and sampling defaults, as keys in
 * GGUF's order. Each part is made elsewhere.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { UnsupportedError } from "../format/errors.ts";
import { type GgufValue, valueBytes, type WrittenKey } from "../format/gguf-write.ts";
import { GGUF_SAMPLING } from "../format/makers-sampling.ts";
import type { Tensor } from "../format/tensor.ts";
import { tokenizerKeys } from "../format/tokenizer-written.ts";
import type { Model } from "../model/model.ts";
import { asCheckpoint, writtenModel } from "../model/written.ts";
import { tokenizerOf } from "./load-checkpoint.ts";

export interface GgufParts {
  readonly keys: readonly WrittenKey[];
  readonly tensors: readonly {
    readonly tensor: Tensor;
    readonly name: string;
    readonly dims: readonly number[];
  }[];
  readonly warnings: readonly string[];
  /** The folder's content as an open GGUF. */
  readonly checkpoint: Checkpoint;
}

/** Throws UnsupportedError for a model, a tokenizer or a template that a GGUF cannot express. */
export async function folderAsGguf(model: Model): Promise<GgufParts> {
  const { checkpoint, config } = model;
  const made = await writtenModel(model);
  const { keys, tensors, warnings } = made;
  const tokenizer = await tokenizerOf(model);
  const all = new Map<string, GgufValue>([
    ...keys,
    ...(await tokenizerKeys(checkpoint.folder!, tokenizer, config.vocab)),
    ...(await templateKeys(checkpoint)),
    ...(await samplingKeys(checkpoint)),
  ]);
  return {
    keys: [...all].map(([key, value]) => ({ key, bytes: valueBytes(value) })),
    ...{ tensors, warnings: [...tokenizer.warnings, ...warnings] },
    checkpoint: { ...asCheckpoint(made, checkpoint.name), tokenizer: async () => tokenizer },
  };
}

async function samplingKeys(checkpoint: Checkpoint): Promise<[string, GgufValue][]> {
  const said = await checkpoint.sampling?.();
  return Object.entries(GGUF_SAMPLING).flatMap(([option, key]): [string, GgufValue][] => {
    const value = said?.[option as keyof typeof GGUF_SAMPLING];
    if (value === undefined) return [];
    return [[key, /top_k|last_n/.test(key) ? { i32: value } : { f32: value }]];
  });
}

async function templateKeys(checkpoint: Checkpoint): Promise<[string, GgufValue][]> {
  const template = await checkpoint.chatTemplate();
  if (template === null) return [];
  if (typeof template.source !== "string")
    throw new UnsupportedError(`${checkpoint.name}: a chat template without its text, in a GGUF`);
  return [["tokenizer.chat_template", { string: template.source }]];
}
