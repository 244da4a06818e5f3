/** A model's embeddings as Vercel's AI SDK takes them: embed, embedMany. */
import type { EmbedOptions } from "../../engine/embed.ts";
import type { LanguageModel } from "../model.ts";
import type { AiEmbeddingModel } from "./types.ts";

/** Options of providerOptions.nibble. */
export type NibbleEmbedOptions = Omit<EmbedOptions, "signal">;

/**
 *     const model = nibbleEmbedding(await load("hf:Qwen/Qwen3-Embedding-0.6B-GGUF", { embeddings: true }));
 *     const { embeddings } = await embedMany({ model, values: ["a whale", "a fish"] });
 *
 * options: for each call; providerOptions.nibble of a call takes precedence. Errors are those of `model.embed`. The caller
 * closes the model.
 */
export function nibbleEmbedding(model: LanguageModel, options: NibbleEmbedOptions = {}): AiEmbeddingModel {
  return {
    specificationVersion: "v3",
    provider: "nibble",
    modelId: model.config.name,
    maxEmbeddingsPerCall: Number.POSITIVE_INFINITY,
    supportsParallelCalls: true,
    async doEmbed({ values, abortSignal, providerOptions }) {
      const asked = { ...options, ...providerOptions?.nibble };
      const { vectors, tokens } = await model.embed(values, {
        ...asked,
        ...(abortSignal === undefined ? {} : { signal: abortSignal }),
      });
      return { embeddings: vectors.map((vector) => [...vector]), usage: { tokens }, warnings: [] };
    },
  };
}
