/**
 * The server as a function from Request to Response: routes, and what holds for all of them (who may call, CORS, errors
 * as JSON, counting). Opens no socket, so tests call it without one.
 */
import { type Context, Hono } from "hono";
import { anthropicError, countTokens, messages } from "./anthropic/messages.ts";
import { chatCompletion } from "./chat.ts";
import { completions } from "./completions.ts";
import { embeddings } from "./embeddings.ts";
import { ApiError, errorResponse, toApiError } from "./errors.ts";
import { checkCaller, corsHeaders, type GuardOptions } from "./guard.ts";
import type { LoadedGauges } from "./metrics.ts";
import { listModels, loadOffered, oneModel, unloadOffered } from "./models.ts";
import type { Offered } from "./offered.ts";
import { ollamaRoutes } from "./ollama/routes.ts";
import type { Page } from "./page.ts";
import { responses } from "./responses/responses.ts";
import { tokenize } from "./tokenize.ts";

export type Api = (request: Request) => Promise<Response>;

type Handler = (request: Request, context: Context) => Response | Promise<Response>;

/** page: what lies at "/". */
export function createApi(offered: Offered, guard: GuardOptions, page: Page): Api {
  const { metrics, log, refused } = offered.shared;
  const models: Record<string, Handler> = { GET: () => listModels(offered) };
  const chats: Record<string, Handler> = { POST: (request) => chatCompletion(offered, request) };
  const completes: Record<string, Handler> = { POST: (request) => completions(offered, request) };
  const embeds: Record<string, Handler> = { POST: (request) => embeddings(offered, request) };
  const routes: Record<string, Record<string, Handler>> = {
    "/health": {
      GET: () => {
        // A lost GPU does not come back: a supervisor may restart the server.
        const { failure } = offered;
        if (failure !== null) throw new ApiError(503, failure, { code: "device_failed" });
        return Response.json({ status: "ok" });
      },
    },
    "/metrics": {
      GET: () =>
        new Response(metrics.text(gaugesOf(offered)), {
          headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
        }),
    },
    "/v1/models": models,
    // The name of a model may have slashes.
    "/v1/models/:id{.+}": { GET: (_, context) => oneModel(offered, context.req.param("id") ?? "") },
    "/v1/chat/completions": chats,
    "/v1/completions": completes,
    "/v1/responses": { POST: (request) => responses(offered, request) },
    "/v1/messages": { POST: (request) => messages(offered, request) },
    "/v1/messages/count_tokens": { POST: (request) => countTokens(offered, request) },
    // Clients whose base URL lacks the "v1", as llama.cpp has them. Files of the page are below /models.
    "/models": models,
    "/models/load": { POST: (request) => loadOffered(offered, request) },
    "/models/unload": { POST: (request) => unloadOffered(offered, request) },
    "/chat/completions": chats,
    "/completions": completes,
    "/tokenize": { POST: (request) => tokenize(offered, request) },
    "/v1/embeddings": embeds,
    "/embeddings": embeds,
    ...ollamaRoutes(offered),
  };

  const app = new Hono();
  const respond = async (route: string, context: Context, handler: Handler, isOpen = false) => {
    const request = context.req.raw;
    let response: Response;
    try {
      checkCaller(request, guard, isOpen);
      response = await handler(request, context);
    } catch (error) {
      const refusal = toApiError(error, log);
      // Internal errors are logged already.
      if (refusal.status !== 500 && refusal.code !== "stopped")
        refused?.(`${refusal.status} ${request.method.slice(0, 20)} ${route}: ${refusal.message}`);
      const { status, headers } = refusal;
      response = route.startsWith("/v1/messages")
        ? Response.json(anthropicError(refusal), { status, headers })
        : errorResponse(refusal);
    }
    metrics.request(route, response.status);
    const common = {
      "x-content-type-options": "nosniff",
      // Pages of other sites cannot embed anything of it; requests with CORS are not affected.
      "cross-origin-resource-policy": "same-origin",
      ...corsHeaders(request, guard),
    };
    for (const [name, value] of Object.entries(common)) response.headers.set(name, value);
    return response;
  };

  for (const [route, methods] of Object.entries(routes)) {
    const allowed = [...Object.keys(methods), "OPTIONS"];
    app.all(route, (context) =>
      respond(route.replace("{.+}", ""), context, (request) => {
        const { method } = request;
        if (method === "OPTIONS")
          return new Response(null, { status: 204, headers: { allow: allowed.join(", ") } });
        // Hono answers HEAD like GET, without the body.
        const handler = methods[method === "HEAD" ? "GET" : method];
        if (handler) return handler(request, context);
        throw new ApiError(405, `${route} takes ${allowed.join(", ")}, not ${method.slice(0, 20)}`, {
          headers: { allow: allowed.join(", ") },
        });
      }),
    );
  }
  app.all("*", (context) =>
    respond(
      "page",
      context,
      async (request) => {
        const file = /^(GET|HEAD)$/.test(request.method) ? await page(request) : null;
        if (file) return file;
        const { pathname } = new URL(request.url);
        throw new ApiError(
          404,
          `there is nothing at ${request.method.slice(0, 20)} ${pathname.slice(0, 200)}`,
          {
            code: "not_found",
          },
        );
      },
      true,
    ),
  );
  // For what Hono itself throws, before a route is found.
  app.onError((error) => errorResponse(toApiError(error, log)));
  return async (request) => app.fetch(request);
}

/** The gauges of all loaded models. If several models are offered, each figure has its model's name. */
function gaugesOf({ models, unload }: Offered): LoadedGauges[] {
  return models.flatMap(({ names, served }) => {
    if (!served) return [];
    const { plan, activity, cache } = served.model;
    const { parallel, context: contextTokens, cacheBytes } = plan;
    const gauges = { ...activity, parallel, cache, contextTokens, cacheBytes };
    return [{ model: unload ? names[0] : null, gauges }];
  });
}
