/** What the lists of models say about a loaded one: its device, its cache and its size. */
import { kvBytes, kvRates, type LanguageModel, ratesByFormat } from "../../index.ts";

export interface ModelFacts {
  /** In addition to OpenAI's fields of a model. */
  readonly listed: Readonly<Record<string, unknown>>;
  /** Ollama's "details". */
  readonly details: Readonly<Record<string, unknown>>;
  readonly context: number;
  readonly weightBytes: number;
  /** All that is allocated. */
  readonly totalBytes: number;
}

export function modelFacts(model: LanguageModel): ModelFacts {
  const { plan, config } = model;
  const { context, kv, cacheBytes, weightBytes, totalBytes, parallel, cacheTokens } = plan;
  const { family } = config;
  return {
    listed: {
      device: model.device,
      ...{ family, context, kv, cacheBytes },
      cacheBytesF16: kvBytes(plan, "f16"),
      cacheRates: kvRates(plan),
      formats: ratesByFormat(plan),
      weightBytes,
      chat: model.chatTemplate !== null,
      ...{ parallel, cacheTokens },
    },
    get details() {
      const bits = plan.graph.weights.find(({ role }) => role === "matrix")?.type ?? "";
      return {
        ...{ parent_model: "", format: "gguf", family, families: [family] },
        ...{ parameter_size: parameters(model), quantization_level: bits.toUpperCase() },
      };
    },
    ...{ context, weightBytes, totalBytes },
  };
}

function parameters({ plan }: LanguageModel): string {
  const count = plan.graph.weights.reduce((sum, { rows, cols }) => sum + rows * cols, 0);
  return count >= 1e9 ? `${(count / 1e9).toFixed(1)}B` : `${(count / 1e6).toFixed(1)}M`;
}
