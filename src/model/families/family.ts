/**
 * The interface of a family: how its files are recognised, which of their keys it reads, the config that follows, the
 * names of its tensors, and its forward pass. One file for each family; `registry.ts` lists them.
 */
import type { Value } from "../../device/contract.ts";
import type { Recorder } from "../../device/recorder.ts";
import type { Checkpoint } from "../../format/checkpoint.ts";
import type { Tensor } from "../../format/tensor.ts";
import type { ModelConfig } from "../config.ts";
import type { FolderFile, FolderReading } from "../folder-file.ts";
import type { GgufCheckpoint, GgufReading } from "../gguf-file.ts";
import { COMMON_FOLDER, COMMON_GGUF, type Keys } from "../keys.ts";
import type { Parts } from "../layers.ts";
import type { NamedFamily, PartOf } from "../names.ts";
import type { Metadata } from "../read.ts";
import type { Key } from "../written-keys.ts";

/** Whether a tensor that no graph uses is harmless. */
export type Harmless = (name: string, config: ModelConfig) => boolean;

/** A `model_type` of config.json, read as transformers' class of that name reads it. */
export interface FolderType extends FolderReading {
  config(file: FolderFile): ModelConfig | Promise<ModelConfig>;
  readonly harmless?: Harmless;
  /** `general.architecture` of its GGUFs. Default: the family's name. */
  readonly architecture?: string;
}

/** A `general.architecture`, read as llama.cpp's class of that name reads it. */
interface GgufType extends GgufReading {
  config(file: GgufCheckpoint): ModelConfig | Promise<ModelConfig>;
  readonly harmless?: Harmless;
}

export interface Family extends NamedFamily {
  /** By `general.architecture`. */
  readonly gguf: Readonly<Record<string, GgufType>>;
  /** By `model_type`. */
  readonly folders: Readonly<Record<string, FolderType>>;
  /**
   * Converts a tensor of a file to the convention of the devices: RoPE in halves, plain norm weights. Default:
   * unchanged.
   */
  view?(tensor: Tensor, of: PartOf & Pick<Checkpoint, "kind" | "tensors">): Tensor;
  /** Converts a tensor of a folder to the convention of the family's GGUFs. Default: as `view` gives it. */
  written?(
    tensor: Tensor,
    of: PartOf & Pick<Checkpoint, "kind" | "tensors"> & { readonly architecture: string },
  ): Tensor;
  /** GGUF keys of this family besides the common ones. Default: none. */
  writtenKeys?(config: ModelConfig): readonly Key[];
  forward(op: Recorder, parts: Parts): Value;
}

/** Attributes of most classes. */
export const DEFAULTS: Metadata = {
  hidden_act: "silu",
  rms_norm_eps: 1e-6,
  tie_word_embeddings: false,
};

export const QKV_BIASES = ["query", "key", "value"] as const;
export const ATTENTION_BIASES = [...QKV_BIASES, "attended"] as const;
export const MLP_BIASES = ["gate", "up", "down"] as const;

export const folderKeys = (own: Keys): Keys => ({ ...COMMON_FOLDER, ...own });
export const ggufKeys = (own: Keys = {}): Keys => ({ ...COMMON_GGUF, ...own });
