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
      return {
        ...{ parent_model: "", format: "gguf", family, families: [family] },
        ...{ parameter_size: parameters(model), quantization_level: commonType(model) },
      };
    },
    ...{ context, weightBytes, totalBytes },
  };
}

/** The type of most values of matrices; an embedding often has another. */
function commonType({ plan }: LanguageModel): string {
  const values = new Map<string, number>();
  for (const { role, type, rows, cols } of plan.graph.weights)
    if (role === "matrix") values.set(type, (values.get(type) ?? 0) + rows * cols);
  const [[type] = [""]] = [...values].sort(([, a], [, b]) => b - a);
  return type.toUpperCase();
}

function parameters({ plan }: LanguageModel): string {
  const count = plan.graph.weights.reduce((sum, { rows, cols }) => sum + rows * cols, 0);
  return count >= 1e9 ? `${(count / 1e9).toFixed(1)}B` : `${(count / 1e6).toFixed(1)}M`;
}
