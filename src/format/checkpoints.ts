/**
 * Opens the two kinds of checkpoint behind one interface, from any Source or Folder (browser-safe). Tokenizer and chat
 * template are made on first use, once.
 */
import type { Checkpoint } from "./checkpoint.ts";
import { FormatError, UnsupportedError } from "./errors.ts";
import { type Folder, openFile, readJson, readText } from "./folder.ts";
import { readGguf } from "./gguf.ts";
import { asObject, type JsonObject } from "./json.ts";
import { samplingFromConfig, samplingFromGguf } from "./makers-sampling.ts";
import { openSafetensors } from "./safetensors.ts";
import type { Source } from "./source.ts";
import { type ChatTemplate, chatTemplateFromConfig, chatTemplateFromGguf } from "./template.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { tokenizerFromFolder } from "./tokenizer-folder.ts";
import { tokenizerFromGguf } from "./tokenizer-gguf.ts";

/** Opens a GGUF file, or any part of a split one whose other parts are in `folder`. Takes over `source`. */
export async function ggufCheckpoint(source: Source, folder?: Folder): Promise<Checkpoint> {
  const { metadata, tensors, layout, close } = await readGguf(source, folder);
  return {
    kind: "gguf",
    name: source.name,
    metadata,
    tensors,
    layout,
    tokenizer: once(() => tokenizerFromGguf(metadata)),
    chatTemplate: once(async () => chatTemplateFromGguf(metadata)),
    sampling: async () => samplingFromGguf(metadata),
    close,
  };
}

/** Opens a Hugging Face or MLX folder. */
export async function safetensorsCheckpoint(folder: Folder): Promise<Checkpoint> {
  const { config, tensors, close } = await openSafetensors(folder);
  return {
    kind: "safetensors",
    name: folder.name,
    metadata: config,
    tensors,
    folder,
    tokenizer: once(() => folderTokenizer(folder, config)),
    chatTemplate: once(() => folderTemplate(folder)),
    sampling: once(async () => {
      const place = "generation_config.json";
      return samplingFromConfig(asObject((await readJson(folder, place)) ?? {}, place));
    }),
    close,
  };
}

async function folderTokenizer(folder: Folder, modelConfig: JsonObject): Promise<Tokenizer> {
  const tokenizer = await readJson(folder, "tokenizer.json");
  if (tokenizer === undefined) throw await noTokenizer(folder);
  return tokenizerFromFolder({
    tokenizer,
    config: await readJson(folder, "tokenizer_config.json"),
    // As in transformers: config.json says what ends a text if no other file does.
    generation: (await readJson(folder, "generation_config.json")) ?? modelConfig,
    specialTokens: await readJson(folder, "special_tokens_map.json"),
  });
}

async function noTokenizer(folder: Folder): Promise<Error> {
  const pieces = await openFile(folder, "tokenizer.model");
  if (pieces === null) return new FormatError(folder.name, "a folder without tokenizer.json");
  await pieces.close();
  const wayOut = "Save the tokenizer with transformers, which writes tokenizer.json, or use a GGUF file.";
  return new UnsupportedError(`${folder.name}: tokenizer.model without tokenizer.json`, wayOut);
}

/** In transformers' order: a file of its own first, as text or as JSON, then tokenizer_config.json. */
async function folderTemplate(folder: Folder): Promise<ChatTemplate | null> {
  const config = asObject((await readJson(folder, "tokenizer_config.json")) ?? {}, "tokenizer_config.json");
  const json = asObject((await readJson(folder, "chat_template.json")) ?? {}, "chat_template.json");
  const jinja = await readText(folder, "chat_template.jinja");
  const specialTokens = await readJson(folder, "special_tokens_map.json");
  return chatTemplateFromConfig({ ...config, ...json }, jinja, specialTokens);
}

/** Calls `make` once and returns the same promise to all callers; after a failure the next call tries again. */
function once<Made>(make: () => Promise<Made>): () => Promise<Made> {
  let made: Promise<Made> | null = null;
  return () => {
    made ??= make().catch((error) => {
      made = null;
      throw error;
    });
    return made;
  };
}
