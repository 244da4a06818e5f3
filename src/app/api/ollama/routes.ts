/**
 * Ollama's API over the one model: /api/chat, /api/generate, /api/embed, /api/tags, /api/show, /api/ps, /api/version. Owns its
 * routes and what it tells of a model. A request is put as OpenAI's and answered by the same code (requests.ts, answers.ts).
 * Pulling, creating and deleting models is refused: the server has the one that it was started with.
 */
import { readBody } from "../body.ts";
import { chatCompletion } from "../chat.ts";
import { completions } from "../completions.ts";
import { embed, readTextsOrIds } from "../embeddings.ts";
import { ApiError, toApiError } from "../errors.ts";
import { EMPTY, fieldTable, harmless, kept, refused } from "../field-rules.ts";
import type { Fields } from "../fields.ts";
import type { Served } from "../served.ts";
import { errorOf, type Frame, lines, loaded, type Shape, wholeAnswer } from "./answers.ts";
import { commonOf, messagesOf, OLLAMA_CHAT, OLLAMA_GENERATE } from "./requests.ts";

type Handler = (request: Request) => Promise<Response>;

const EMBED = fieldTable(
  kept("model", "input", "dimensions", "prompt"),
  harmless("the server has these as it was started", "options", "keep_alive"),
  refused("A text that does not fit is refused with its length.", { truncate: [true, false] }),
);
const SHOW = fieldTable(
  kept("model", "name", "verbose"),
  refused("The model's own is used.", { system: EMPTY, template: EMPTY }),
);

/** What clients ask for before they use newer features. */
const VERSION = "0.13.0";

export function ollamaRoutes(served: Served): Record<string, Record<string, Handler>> {
  const told =
    (handler: Handler): Handler =>
    (request) =>
      handler(request).catch((error) => errorOf(toApiError(error, served.log)));
  const refusal: Handler = told(async () => {
    throw new ApiError(
      400,
      "this server has the one model that it was started with; nibble pull and nibble models manage others",
    );
  });
  return {
    "/api/version": { GET: async () => Response.json({ version: VERSION }) },
    "/api/tags": { GET: async () => Response.json({ models: [tag(served)] }) },
    "/api/ps": { GET: async () => Response.json({ models: [running(served)] }) },
    "/api/show": { POST: told((request) => show(served, request)) },
    "/api/chat": { POST: told((request) => ollamaChat(served, request)) },
    "/api/generate": { POST: told((request) => generate(served, request)) },
    "/api/embed": { POST: told((request) => embedTexts(served, request)) },
    "/api/embeddings": { POST: told((request) => embedOne(served, request)) },
    ...{ "/api/pull": { POST: refusal }, "/api/create": { POST: refusal }, "/api/copy": { POST: refusal } },
    ...{ "/api/push": { POST: refusal }, "/api/delete": { DELETE: refusal } },
  };
}

/** Ollama's clients put ":latest" after a name without a tag. ApiError 404 for a model that is not here. */
function checkName(fields: Fields, { names }: Served, field = "model"): void {
  const asked = fields.requiredText(field);
  if (names.includes(asked) || names.includes(asked.replace(/:latest$/, ""))) return;
  throw new ApiError(
    404,
    `model ${JSON.stringify(asked.slice(0, 100))} not found; there is ${JSON.stringify(names[0])}`,
  );
}

const knows =
  ({ model }: Served) =>
  (variable: string) =>
    model.chatTemplate?.source.includes(variable) ?? false;

async function ollamaChat(served: Served, request: Request): Promise<Response> {
  const fields = await readBody(request, served, OLLAMA_CHAT);
  checkName(fields, served);
  const frame = frameOf(served, "chat");
  const messages = messagesOf(fields);
  if (messages.length === 0) return Response.json(loaded(frame));
  const tools = fields.any("tools");
  return answered(served, request, frame, fields, {
    ...{ messages, ...commonOf(fields, knows(served)) },
    ...(Array.isArray(tools) && tools.length > 0 ? { tools } : {}),
  });
}

async function generate(served: Served, request: Request): Promise<Response> {
  const fields = await readBody(request, served, OLLAMA_GENERATE);
  checkName(fields, served);
  const frame = frameOf(served, "generate");
  const prompt = fields.text("prompt") ?? "";
  if (prompt === "") return Response.json(loaded(frame));
  const common = commonOf(fields, knows(served));
  if (fields.boolean("raw") || served.model.chatTemplate === null)
    return answered(served, request, frame, fields, { prompt, ...common });
  const system = fields.text("system");
  const messages = [
    ...(system ? [{ role: "system", content: system }] : []),
    { role: "user", content: prompt },
  ];
  return answered(served, request, frame, fields, { messages, ...common });
}

const frameOf = ({ names }: Served, shape: Shape): Frame => ({
  shape,
  model: names[0],
  began: performance.now(),
});

/** Asks the route of OpenAI's that takes such a body, and puts its answer in Ollama's form. Streams unless told not to. */
async function answered(
  served: Served,
  request: Request,
  frame: Frame,
  fields: Fields,
  asked: Record<string, unknown>,
): Promise<Response> {
  const stream = fields.boolean("stream") ?? true;
  const body = JSON.stringify({
    ...asked,
    stream,
    ...(stream ? { stream_options: { include_usage: true } } : {}),
  });
  const own = new Request(request.url, { method: "POST", body, signal: request.signal });
  const response = await ("messages" in asked ? chatCompletion : completions)(served, own);
  return stream ? lines(frame, response) : wholeAnswer(frame, response);
}

async function embedTexts(served: Served, request: Request): Promise<Response> {
  const fields = await readBody(request, served, EMBED);
  checkName(fields, served);
  const began = performance.now();
  const dimensions = fields.number("dimensions", { low: 1, high: 2 ** 20, integer: true });
  const { vectors, tokens } = await embed(served, request, readTextsOrIds(fields, "input"), dimensions);
  return Response.json({
    model: served.names[0],
    embeddings: vectors.map((vector) => [...vector]),
    total_duration: Math.round((performance.now() - began) * 1e6),
    load_duration: 0,
    prompt_eval_count: tokens,
  });
}

/** The older route: one text. */
async function embedOne(served: Served, request: Request): Promise<Response> {
  const fields = await readBody(request, served, EMBED);
  checkName(fields, served);
  const { vectors } = await embed(served, request, [fields.requiredText("prompt")]);
  return Response.json({ embedding: [...vectors[0]] });
}

function details({ model }: Served) {
  const { family } = model.config;
  const bits = model.plan.graph.weights.find(({ role }) => role === "matrix")?.type ?? "";
  return {
    ...{ parent_model: "", format: "gguf", family, families: [family] },
    ...{ parameter_size: parameters(model), quantization_level: bits.toUpperCase() },
  };
}

function parameters({ plan }: Served["model"]): string {
  const count = plan.graph.weights.reduce((sum, { rows, cols }) => sum + rows * cols, 0);
  return count >= 1e9 ? `${(count / 1e9).toFixed(1)}B` : `${(count / 1e6).toFixed(1)}M`;
}

function tag(served: Served) {
  const [name] = served.names;
  const modified_at = new Date(served.created * 1000).toISOString();
  // Nobody's digest: the file is not read for it.
  return {
    name,
    model: name,
    modified_at,
    size: served.model.plan.weightBytes,
    digest: "",
    details: details(served),
  };
}

function running(served: Served) {
  const { plan } = served.model;
  const far = new Date((served.created + 10 * 365 * 86_400) * 1000).toISOString();
  return { ...tag(served), expires_at: far, size_vram: plan.totalBytes, context_length: plan.context };
}

async function show(served: Served, request: Request): Promise<Response> {
  const fields = await readBody(request, served, SHOW);
  checkName(fields, served, fields.has("model") ? "model" : "name");
  const { model } = served;
  const { family, layers, hidden, trainedContext, name } = model.config;
  const has = knows(served);
  return Response.json({
    modelfile: "",
    parameters: Object.entries(model.sampling)
      .map(([option, value]) => `${option} ${value}`)
      .join("\n"),
    template: model.chatTemplate?.source ?? "",
    details: details(served),
    model_info: {
      "general.architecture": family,
      "general.basename": name,
      [`${family}.context_length`]: trainedContext,
      [`${family}.block_count`]: layers.length,
      [`${family}.embedding_length`]: hidden,
    },
    capabilities: [
      "completion",
      ...(has("tools") ? ["tools"] : []),
      ...(has("enable_thinking") || has("reasoning_effort") ? ["thinking"] : []),
      ...(model.embedding.pooling === null ? [] : ["embedding"]),
    ],
    modified_at: new Date(served.created * 1000).toISOString(),
  });
}
