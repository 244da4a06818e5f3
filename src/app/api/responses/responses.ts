/**
 * POST /v1/responses. The response's own form, whole and streamed; its items are in `items.ts`, and conversations that
 * can be continued in `kept.ts`.
 */
import { type GenerationResult, inSlices } from "../../../index.ts";
import { type Answering, admitAnswers, type Ending } from "../answering.ts";
import { readBody } from "../body.ts";
import { toApiError } from "../errors.ts";
import { eventResponse } from "../events.ts";
import type { Fields } from "../fields.ts";
import type { Offered } from "../offered.ts";
import { renaming } from "../renamed.ts";
import type { Served } from "../served.ts";
import { Items, messagesOf, type ResponseEvent } from "./items.ts";
import { KeptResponses } from "./kept.ts";
import { RENAMES, RESPONSES, readResponses } from "./request.ts";

/** By server, for all of its models: responses of one server are not known to another. */
const kept = new WeakMap<Offered, KeptResponses>();

export async function responses(offered: Offered, request: Request): Promise<Response> {
  const fields = await readBody(request, offered.shared, RESPONSES);
  const conversations = kept.get(offered) ?? new KeptResponses();
  kept.set(offered, conversations);
  const previous = fields.text("previous_response_id");
  const before = previous === undefined ? [] : conversations.get(previous);
  return offered.use({ name: fields.text("model"), signal: request.signal }, (served) =>
    respond(served, request, fields, { conversations, before }),
  );
}

async function respond(
  served: Served,
  request: Request,
  fields: Fields,
  { conversations, before }: { conversations: KeptResponses; before: readonly unknown[] },
): Promise<Response> {
  const isKept = fields.boolean("store") !== false;
  const { asked, answers } = await renaming(RENAMES, async () => {
    const reading = readResponses(fields, served, before);
    const asked = await inSlices(reading, "reading the request", request.signal);
    return { asked, ...(await admitAnswers(served, request, asked)) };
  });
  const [answer] = answers;
  const frame = frameOf(fields, served);
  const items = new Items();
  const ended = (ending: Ending) => {
    // An answer that the request began is stored in the request.
    if (isKept && asked.begun === "")
      conversations.keep(frame.id, [...asked.history, ...messagesOf(items.all)]);
    return { ...frame, ...endOf(ending), output: items.all, usage: usageOf(ending.result) };
  };
  if (asked.stream) return streamed(served, answer, frame, items, ended);
  const ending = await answer.start({
    onUpdate({ part }) {
      for (const _ of items.add(part));
    },
  });
  for (const _ of items.close(statusOf(ending)));
  return Response.json(ended(ending));
}

function streamed(
  served: Served,
  answer: Answering,
  frame: ReturnType<typeof frameOf>,
  items: Items,
  ended: (ending: Ending) => Record<string, unknown>,
): Response {
  let number = 0;
  return eventResponse({
    isTyped: true,
    async write({ send }) {
      const sendEvent = ({ type, ...more }: ResponseEvent) =>
        send({ type, sequence_number: number++, ...more });
      const begun = { ...frame, status: "in_progress", output: [], usage: null };
      await sendEvent({ type: "response.created", response: begun });
      await sendEvent({ type: "response.in_progress", response: begun });
      const ending = await answer.start({
        async onUpdate({ part }) {
          for (const event of items.add(part)) await sendEvent(event);
        },
      });
      const status = statusOf(ending);
      for (const event of items.close(status)) await sendEvent(event);
      await sendEvent({ type: `response.${status}`, response: ended(ending) });
    },
    onGone: answer.cancel,
    describe(error) {
      const { message, code, param } = toApiError(error, served.log);
      return { type: "error", sequence_number: number++, code, message, param };
    },
  });
}

/** What is known before anything is generated. */
function frameOf(fields: Fields, { names }: Served) {
  return {
    id: `resp_${crypto.randomUUID().replaceAll("-", "")}`,
    object: "response",
    created_at: Math.floor(Date.now() / 1000),
    model: names[0],
    error: null,
    incomplete_details: null,
    instructions: fields.text("instructions") ?? null,
    max_output_tokens: fields.any("max_output_tokens") ?? null,
    metadata: fields.object("metadata")?.record ?? {},
    parallel_tool_calls: fields.boolean("parallel_tool_calls") ?? true,
    previous_response_id: fields.text("previous_response_id") ?? null,
    reasoning: { effort: fields.object("reasoning")?.text("effort") ?? null, summary: null },
    store: fields.boolean("store") ?? true,
    temperature: fields.any("temperature") ?? null,
    text: fields.object("text")?.record ?? { format: { type: "text" } },
    tool_choice: fields.any("tool_choice") ?? "auto",
    tools: fields.list("tools") ?? [],
    top_p: fields.any("top_p") ?? null,
    truncation: "disabled",
  };
}

function statusOf({ finish }: Ending): "completed" | "incomplete" {
  return finish === "length" ? "incomplete" : "completed";
}

function endOf(ending: Ending) {
  const status = statusOf(ending);
  return { status, incomplete_details: status === "incomplete" ? { reason: "max_output_tokens" } : null };
}

function usageOf({ promptTokens, reusedTokens, generatedTokens }: GenerationResult) {
  return {
    input_tokens: promptTokens,
    input_tokens_details: { cached_tokens: reusedTokens },
    output_tokens: generatedTokens,
    // Not counted separately.
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: promptTokens + generatedTokens,
  };
}
