/** GET /v1/models: the one model, with what it runs on and what its cache takes. */
import { kvBytes, kvRates, ratesByFormat } from "../../index.ts";
import { ApiError } from "./errors.ts";
import type { Served } from "./served.ts";

export function listModels(served: Served): Response {
  return Response.json({ object: "list", data: [describe(served)] });
}

export function oneModel(served: Served, id: string): Response {
  if (served.names.includes(id)) return Response.json(describe(served));
  throw new ApiError(404, `the model ${JSON.stringify(id.slice(0, 100))} is not served here`, {
    param: "model",
    code: "model_not_found",
  });
}

function describe({ names, created, model }: Served) {
  const { plan } = model;
  return {
    id: names[0],
    object: "model",
    created,
    owned_by: "nibble",
    nibble: {
      device: model.device,
      family: model.config.family,
      context: plan.context,
      kv: plan.kv,
      cacheBytes: plan.cacheBytes,
      cacheBytesF16: kvBytes(plan, "f16"),
      cacheRates: kvRates(plan),
      formats: ratesByFormat(plan),
      weightBytes: plan.weightBytes,
      chat: model.chatTemplate !== null,
      parallel: plan.parallel,
      cacheTokens: plan.cacheTokens,
    },
  };
}
