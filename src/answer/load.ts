/** Loads a model in Node (`engine/load.ts`) whose answers can match schemas and call tools. */
import { type LoadOptions, loadAs } from "../engine/load.ts";
import { checkKnown } from "../engine/option-names.ts";
import { LanguageModel } from "./model.ts";

const KNOWN: Readonly<Record<keyof LoadOptions, true>> = {
  ...{ device: true, adapter: true, kernels: true, threads: true, wideSimd: true, draft: true },
  ...{ offline: true, onDownload: true, onProgress: true, onPlan: true, signal: true },
  ...{
    context: true,
    parallel: true,
    cacheTokens: true,
    snapshots: true,
    kv: true,
    chunk: true,
    outputs: true,
  },
  ...{ guess: true, memoryBytes: true, keepLabels: true, embeddings: true },
};

/**
 * Opens a model (a GGUF file, a safetensors folder, "needle", or "hf:owner/name") and loads it. `{ parallel: 4 }` lets four
 * generations run at once, over one set of weights (see LanguageModel). A misspelt option is an error.
 * Throws FormatError, UnsupportedError, MemoryError, ArgumentError, AbortedError.
 */
export async function load(name: string, options: LoadOptions = {}): Promise<LanguageModel> {
  checkKnown(options, Object.keys(KNOWN));
  return loadAs((parts) => new LanguageModel(parts), name, options);
}
