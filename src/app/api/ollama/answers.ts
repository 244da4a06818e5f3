/**
 * This server's answers (OpenAI's form, whole or as events) in Ollama's: one JSON object, or one a line. Times are in
 * nanoseconds there.
 */
import type { ApiError } from "../errors.ts";

type Json = Record<string, unknown>;

/** What both forms of an answer come as: chat.completion, chat.completion.chunk, text_completion. */
interface Choice {
  readonly message?: Json;
  readonly delta?: Json;
  readonly text?: string;
  readonly finish_reason?: string | null;
  readonly logprobs?: { readonly content?: readonly Json[] } | null;
}

interface Source {
  readonly choices?: readonly Choice[];
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number } | null;
  readonly timings?: { readonly prompt_ms: number; readonly generate_ms: number };
  readonly error?: { readonly message: string };
}

/** The form of an answer's words: a message, or a response. */
export type Shape = "chat" | "generate";

export interface Frame {
  readonly shape: Shape;
  readonly model: string;
  /** When the request came, and when its model was loaded, by `performance.now`. */
  readonly began: number;
  readonly ready: number;
}

const NS = 1e6;

function wordsOf(choice: Choice | undefined): { content: string; thinking: string; calls: unknown[] } {
  const found = choice?.message ?? choice?.delta ?? { content: choice?.text };
  const calls = (found.tool_calls ?? []) as { function: { name: string; arguments: string } }[];
  return {
    content: (found.content as string | null | undefined) ?? "",
    thinking: (found.reasoning_content as string | undefined) ?? "",
    calls: calls.map(({ function: { name, arguments: given } }) => ({
      function: { name, arguments: JSON.parse(given) },
    })),
  };
}

/** One object of an answer; with `end` the last one. */
function objectOf(frame: Frame, choice: Choice | undefined, end: Json | null): Json {
  const { content, thinking, calls } = wordsOf(choice);
  const thought = thinking === "" ? {} : { thinking };
  const said =
    frame.shape === "chat"
      ? {
          message: {
            role: "assistant",
            content,
            ...thought,
            ...(calls.length > 0 ? { tool_calls: calls } : {}),
          },
        }
      : { response: content, ...thought };
  const logprobs = choice?.logprobs?.content;
  return {
    model: frame.model,
    created_at: new Date().toISOString(),
    ...said,
    ...(logprobs && logprobs.length > 0 ? { logprobs } : {}),
    done: end !== null,
    ...end,
  };
}

function endOf(frame: Frame, reason: string | null | undefined, { usage, timings }: Source): Json {
  const promptMs = timings?.prompt_ms ?? 0;
  const generateMs = timings?.generate_ms ?? 0;
  return {
    done_reason: reason === "length" ? "length" : "stop",
    total_duration: Math.round((performance.now() - frame.began) * NS),
    load_duration: Math.round((frame.ready - frame.began) * NS),
    prompt_eval_count: usage?.prompt_tokens ?? 0,
    prompt_eval_duration: Math.round(promptMs * NS),
    eval_count: usage?.completion_tokens ?? 0,
    eval_duration: Math.round(generateMs * NS),
  };
}

/** The answer to a request that only loads or unloads the model. */
export function loaded(frame: Frame, done_reason: "load" | "unload"): Json {
  return objectOf(frame, undefined, { done_reason });
}

export async function wholeAnswer(frame: Frame, response: Response): Promise<Response> {
  const source = (await response.json()) as Source;
  const choice = source.choices?.[0];
  return Response.json(objectOf(frame, choice, endOf(frame, choice?.finish_reason, source)));
}

/** Events in, lines out, at the reader's pace; a client that disconnects ends the generation. */
export function lines(frame: Frame, response: Response): Response {
  const decoder = new TextDecoder();
  const encoder = new TextEncoder();
  let rest = "";
  let finish: string | null = null;
  let timings: Source["timings"];
  const put = (controller: TransformStreamDefaultController<Uint8Array>, object: unknown) =>
    controller.enqueue(encoder.encode(`${JSON.stringify(object)}\n`));
  const take = (controller: TransformStreamDefaultController<Uint8Array>, event: string) => {
    if (!event.startsWith("data: ") || event === "data: [DONE]") return;
    const source = JSON.parse(event.slice("data: ".length)) as Source;
    if (source.error) return put(controller, { error: source.error.message });
    const choice = source.choices?.[0];
    timings = source.timings ?? timings;
    finish = choice?.finish_reason ?? finish;
    // The last event has the usage and no choice.
    if (source.usage && !choice)
      put(controller, objectOf(frame, undefined, endOf(frame, finish, { ...source, timings })));
    else if (choice && hasContent(choice)) put(controller, objectOf(frame, choice, null));
  };
  const body = response.body!.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        const events = (rest + decoder.decode(chunk, { stream: true })).split("\n\n");
        rest = events.pop() ?? "";
        for (const event of events) take(controller, event);
      },
    }),
  );
  return new Response(body, {
    headers: { "content-type": "application/x-ndjson; charset=utf-8", "cache-control": "no-cache" },
  });
}

function hasContent(choice: Choice): boolean {
  const { content, thinking, calls } = wordsOf(choice);
  return content !== "" || thinking !== "" || calls.length > 0;
}

/** {"error": "..."}: Ollama's form. */
export function errorOf(error: ApiError): Response {
  return Response.json({ error: error.message }, { status: error.status, headers: error.headers });
}
