/**
 * GET /v1/models: the models with whether they are loaded, what they run on and what their caches take. POST /models/load
 * and /models/unload, as llama.cpp's server has them when it has several.
 */
import { readBody } from "./body.ts";
import { ApiError } from "./errors.ts";
import { kept } from "./field-rules.ts";
import type { Offered, OfferedModel } from "./offered.ts";

const NAMED = kept("model");

export function listModels({ models }: Offered): Response {
  return Response.json({ object: "list", data: models.map(describe) });
}

export function oneModel(offered: Offered, id: string): Response {
  return Response.json(describe(named(offered, id)));
}

/** Answers at once; the list shows the progress. */
export async function loadOffered(offered: Offered, request: Request): Promise<Response> {
  const { names } = await readName(offered, request);
  // It belongs to no request, so none ends it. Errors appear in the list.
  offered.use({ name: names[0], signal: new AbortController().signal }, async () => {}).catch(() => {});
  return Response.json({ success: true });
}

export async function unloadOffered(offered: Offered, request: Request): Promise<Response> {
  const model = await readName(offered, request);
  if (!offered.unload)
    throw new ApiError(400, "this server has the one model that it was started with, and keeps it", {
      code: "unsupported_parameter",
    });
  await offered.unload(model);
  return Response.json({ success: true });
}

async function readName(offered: Offered, request: Request): Promise<OfferedModel> {
  const fields = await readBody(request, offered.shared, NAMED);
  return named(offered, fields.requiredText("model"));
}

function named(offered: Offered, id: string): OfferedModel {
  const found = offered.find(id);
  if (found) return found;
  throw new ApiError(404, `the model ${JSON.stringify(id.slice(0, 100))} is not served here`, {
    param: "model",
    code: "model_not_found",
  });
}

function describe({ names, created, state, progress, problem, facts, fileBytes }: OfferedModel) {
  return {
    id: names[0],
    object: "model",
    created,
    owned_by: "nibble",
    // llama.cpp's form.
    status: { value: state, ...(progress ? { progress } : {}), ...(problem === null ? {} : { problem }) },
    nibble: { ...facts?.listed, ...(fileBytes === null ? {} : { fileBytes }) },
  };
}
