/** What Ollama's API returns about models: all in /api/tags, loaded ones in /api/ps, one in /api/show. */
import type { OfferedModel } from "../offered.ts";

/** Ten years stand for "for ever". */
const FAR_MS = 10 * 365 * 86_400_000;

const modified = ({ created }: OfferedModel) => new Date(created * 1000).toISOString();

/** Little is known of one that was never loaded: its file is not read for it. */
const UNKNOWN = {
  ...{ parent_model: "", format: "gguf", family: "", families: [] },
  ...{ parameter_size: "", quantization_level: "" },
};

export function tag(model: OfferedModel) {
  const [name] = model.names;
  return {
    ...{ name, model: name },
    modified_at: modified(model),
    size: model.fileBytes ?? model.facts?.weightBytes ?? 0,
    // No digest of the file, which is not read for it.
    digest: "",
    details: model.facts?.details ?? UNKNOWN,
  };
}

/** Nothing where it is not loaded. */
export function running(model: OfferedModel) {
  const { facts, served } = model;
  if (!served || !facts) return [];
  const expires = model.expires ?? model.created * 1000 + FAR_MS;
  return [
    {
      ...tag(model),
      expires_at: new Date(expires).toISOString(),
      ...{ size_vram: facts.totalBytes, context_length: facts.context },
    },
  ];
}

export async function shown(model: OfferedModel) {
  const { config, template, sampling, pooling } = await model.look();
  const family = config?.family ?? "unknown";
  const has = (variable: string) => template?.includes(variable) ?? false;
  const options = Object.entries(sampling).map(([option, value]) => `${option} ${value}`);
  return {
    modelfile: "",
    parameters: options.join("\n"),
    template: template ?? "",
    details: model.facts?.details ?? { ...UNKNOWN, family, families: [family] },
    model_info: {
      "general.architecture": family,
      ...(config && {
        "general.basename": config.name,
        [`${family}.context_length`]: config.trainedContext,
        [`${family}.block_count`]: config.layers.length,
        [`${family}.embedding_length`]: config.hidden,
      }),
    },
    capabilities: [
      "completion",
      ...(has("tools") ? ["tools"] : []),
      ...(has("enable_thinking") || has("reasoning_effort") ? ["thinking"] : []),
      ...(pooling === null ? [] : ["embedding"]),
    ],
    modified_at: modified(model),
  };
}
