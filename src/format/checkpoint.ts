/**
 * What a loader returns for any kind of file: metadata with its own keys, tensors with their own names, a tokenizer and
 * a chat template. `model` maps these names to ours.
 */

import type { Folder } from "./folder.ts";
import type { GgufLayout } from "./gguf-header.ts";
import type { MakersSampling } from "./makers-sampling.ts";
import type { ChatTemplate } from "./template.ts";
import type { Tensor } from "./tensor.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface Checkpoint {
  readonly kind: "gguf" | "safetensors";
  /** The path or URL as given. */
  readonly name: string;
  /** GGUF key-values, or the parsed config.json. Values are JSON-like; big integers are numbers. */
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly tensors: ReadonlyMap<string, Tensor>;
  /** The parts of a GGUF that copying it needs. */
  readonly layout?: GgufLayout;
  /** The folder, to read its other files. */
  readonly folder?: Folder;
  /** Built on first use: parsing a large vocabulary takes time, and `inspect` does not need it. */
  tokenizer(): Promise<Tokenizer>;
  /** null if the checkpoint has none. */
  chatTemplate(): Promise<ChatTemplate | null>;
  /** The makers' sampling defaults; missing: none. */
  sampling?(): Promise<MakersSampling>;
  close(): Promise<void>;
}
