/**
 * What a loader hands on, whatever the file kind: raw metadata under its own keys, tensors under their own names,
 * a tokenizer and a chat template. Mapping foreign names to ours is `model`'s work, done once per file kind.
 */

import type { Folder } from "./folder.ts";
import type { GgufLayout } from "./gguf-header.ts";
import type { MakersSampling } from "./makers-sampling.ts";
import type { ChatTemplate } from "./template.ts";
import type { Tensor } from "./tensor.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface Checkpoint {
  readonly kind: "gguf" | "safetensors";
  /** Path or URL as given. */
  readonly name: string;
  /** GGUF key-values, or the parsed config.json. Values are plain JSON-like; big integers are numbers. */
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly tensors: ReadonlyMap<string, Tensor>;
  /** Of a GGUF, for a copy of it. */
  readonly layout?: GgufLayout;
  /** Of a folder, for its other files. */
  readonly folder?: Folder;
  /** Built on first use: parsing a large vocabulary takes time that `inspect` need not spend. */
  tokenizer(): Promise<Tokenizer>;
  /** null when the checkpoint carries none. */
  chatTemplate(): Promise<ChatTemplate | null>;
  /** What the makers say of choosing tokens; missing: nothing. */
  sampling?(): Promise<MakersSampling>;
  close(): Promise<void>;
}
