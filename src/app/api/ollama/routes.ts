/**
 * Ollama's API: /api/chat, /api/generate, /api/embed, /api/tags, /api/show, /api/ps, /api/version. The descriptions
 * of models are in described.ts. A request is converted to OpenAI's and answered by the same code (requests.ts, answers.ts).
 * Pulling, creating and deleting models is refused: the server has those that it was started with.
 */
import { readBody } from "../body.ts";
import { chatCompletion } from "../chat.ts";
import { completions } from "../completions.ts";
import { embed, readTextsOrIds } from "../embeddings.ts";
import { ApiError, toApiError } from "../errors.ts";
import { EMPTY, fieldTable, harmless, kept, refused } from "../field-rules.ts";
import type { Fields } from "../fields.ts";
import { alone, type Offered, type OfferedModel } from "../offered.ts";
import type { Served } from "../served.ts";
import { errorOf, type Frame, lines, loaded, type Shape, wholeAnswer } from "./answers.ts";
import { running, shown, tag } from "./described.ts";
import { commonOf, keepOf, messagesOf, OLLAMA_CHAT, OLLAMA_GENERATE } from "./requests.ts";

type Handler = (request: Request) => Promise<Response>;

const EMBED = fieldTable(
  kept("model", "input", "dimensions", "prompt", "keep_alive"),
  harmless("the server has these as it was started", "options"),
  refused("A text that does not fit is refused with its length.", { truncate: [true, false] }),
);
const SHOW = fieldTable(
  kept("model", "name", "verbose"),
  refused("The model's own is used.", { system: EMPTY, template: EMPTY }),
);

/** The version that clients check before they use newer features. */
const VERSION = "0.13.0";

export function ollamaRoutes(offered: Offered): Record<string, Record<string, Handler>> {
  const withErrors =
    (handler: Handler): Handler =>
    (request) =>
      handler(request).catch((error) => errorOf(toApiError(error, offered.shared.log)));
  const refusal: Handler = withErrors(async () => {
    throw new ApiError(
      400,
      "this server has the models that it was started with; nibble pull and nibble models manage others",
    );
  });
  const post = (handler: (offered: Offered, request: Request) => Promise<Response>) => ({
    POST: withErrors((request) => handler(offered, request)),
  });
  return {
    "/api/version": { GET: async () => Response.json({ version: VERSION }) },
    "/api/tags": { GET: async () => Response.json({ models: offered.models.map(tag) }) },
    "/api/ps": { GET: async () => Response.json({ models: offered.models.flatMap(running) }) },
    ...{ "/api/show": post(show), "/api/chat": post(ollamaChat), "/api/generate": post(generate) },
    ...{ "/api/embed": post(embedTexts), "/api/embeddings": post(embedOne) },
    ...{ "/api/pull": { POST: refusal }, "/api/create": { POST: refusal }, "/api/copy": { POST: refusal } },
    ...{ "/api/push": { POST: refusal }, "/api/delete": { DELETE: refusal } },
  };
}

/** Ollama's clients put ":latest" after a name without a tag. ApiError 404 for a model that is not here. */
function modelOf(fields: Fields, offered: Offered, field = "model"): OfferedModel {
  const asked = fields.requiredText(field);
  const found = offered.find(asked) ?? offered.find(asked.replace(/:latest$/, ""));
  if (found) return found;
  const known = offered.models.slice(0, 5).map(({ names }) => JSON.stringify(names[0]));
  throw new ApiError(
    404,
    `model ${JSON.stringify(asked.slice(0, 100))} not found; there is ${known.join(", ")}`,
  );
}

/** Reads the request, and runs `work` with its model and the frame of the answer. */
async function withModel(
  offered: Offered,
  request: Request,
  { fields, shape }: { fields: Fields; shape: Shape },
  work: (served: Served, frame: Frame) => Promise<Response>,
): Promise<Response> {
  const began = performance.now();
  const [name] = modelOf(fields, offered).names;
  return offered.use({ name, signal: request.signal, keepMs: keepOf(fields) }, (served) =>
    work(served, { shape, model: name, began, ready: performance.now() }),
  );
}

/** The answer to a request that only loads the model, or with `keep_alive` 0 unloads it. */
async function loadedOnly(offered: Offered, request: Request, fields: Fields, shape: Shape) {
  const model = modelOf(fields, offered);
  if (offered.unload && keepOf(fields) === 0) {
    await offered.unload(model);
    const now = performance.now();
    return Response.json(loaded({ shape, model: model.names[0], began: now, ready: now }, "unload"));
  }
  return withModel(offered, request, { fields, shape }, async (_, frame) =>
    Response.json(loaded(frame, "load")),
  );
}

const knows =
  ({ model }: Served) =>
  (variable: string) =>
    model.chatTemplate?.source.includes(variable) ?? false;

async function ollamaChat(offered: Offered, request: Request): Promise<Response> {
  const fields = await readBody(request, offered.shared, OLLAMA_CHAT);
  modelOf(fields, offered);
  const messages = messagesOf(fields);
  if (messages.length === 0) return loadedOnly(offered, request, fields, "chat");
  const tools = fields.any("tools");
  return withModel(offered, request, { fields, shape: "chat" }, (served, frame) =>
    answered(served, request, frame, fields, {
      ...{ messages, ...commonOf(fields, knows(served)) },
      ...(Array.isArray(tools) && tools.length > 0 ? { tools } : {}),
      ...(fields.has("tool_choice") ? { tool_choice: fields.any("tool_choice") } : {}),
    }),
  );
}

async function generate(offered: Offered, request: Request): Promise<Response> {
  const fields = await readBody(request, offered.shared, OLLAMA_GENERATE);
  modelOf(fields, offered);
  const prompt = fields.text("prompt") ?? "";
  if (prompt === "") return loadedOnly(offered, request, fields, "generate");
  return withModel(offered, request, { fields, shape: "generate" }, (served, frame) => {
    const common = commonOf(fields, knows(served));
    if (fields.boolean("raw") || served.model.chatTemplate === null)
      return answered(served, request, frame, fields, { prompt, ...common });
    const system = fields.text("system");
    const messages = [
      ...(system ? [{ role: "system", content: system }] : []),
      { role: "user", content: prompt },
    ];
    return answered(served, request, frame, fields, { messages, ...common });
  });
}

/** Calls OpenAI's route for such a body, and converts its answer to Ollama's form. Streams by default. */
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
  const response = await ("messages" in asked ? chatCompletion : completions)(alone(served), own);
  return stream ? lines(frame, response) : wholeAnswer(frame, response);
}

async function embedTexts(offered: Offered, request: Request): Promise<Response> {
  const fields = await readBody(request, offered.shared, EMBED);
  return withModel(offered, request, { fields, shape: "generate" }, async (served, frame) => {
    const dimensions = fields.number("dimensions", { low: 1, high: 2 ** 20, integer: true });
    const { vectors, tokens } = await embed(served, request, readTextsOrIds(fields, "input"), dimensions);
    return Response.json({
      model: frame.model,
      embeddings: vectors.map((vector) => [...vector]),
      total_duration: Math.round((performance.now() - frame.began) * 1e6),
      load_duration: Math.round((frame.ready - frame.began) * 1e6),
      prompt_eval_count: tokens,
    });
  });
}

/** The older route: one text. */
async function embedOne(offered: Offered, request: Request): Promise<Response> {
  const fields = await readBody(request, offered.shared, EMBED);
  return withModel(offered, request, { fields, shape: "generate" }, async (served) => {
    const { vectors } = await embed(served, request, [fields.requiredText("prompt")]);
    return Response.json({ embedding: [...vectors[0]] });
  });
}

async function show(offered: Offered, request: Request): Promise<Response> {
  const fields = await readBody(request, offered.shared, SHOW);
  return Response.json(await shown(modelOf(fields, offered, fields.has("model") ? "model" : "name")));
}
