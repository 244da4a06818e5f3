/** Loads a model in Node (`engine/load.ts`) whose answers can match schemas and call tools. */
import { type LoadOptions, loadAs } from "../engine/load.ts";
import { LanguageModel } from "./model.ts";

/**
 * Opens a model (a GGUF file, a safetensors folder, "needle", or "hf:owner/name") and loads it. `{ parallel: 4 }` lets four
 * generations run at once, over one set of weights (see LanguageModel).
 * Throws FormatError, UnsupportedError, MemoryError, ArgumentError, AbortedError.
 */
export function load(name: string, options?: LoadOptions): Promise<LanguageModel> {
  return loadAs((parts) => new LanguageModel(parts), name, options);
}
