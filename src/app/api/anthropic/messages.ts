/**
 * POST /v1/messages and /v1/messages/count_tokens, as Anthropic's clients expect them: the form of answers, events
 * and errors. (https://docs.anthropic.com/en/api/messages, .../messages-streaming)
 */
import type { AnswerPart } from "../../../answer/parts.ts";
import { type GenerationResult, inSlices } from "../../../index.ts";
import { type Answering, admitAnswers, type Ending, promptOf } from "../answering.ts";
import { readBody } from "../body.ts";
import { type ApiError, toApiError } from "../errors.ts";
import { eventResponse } from "../events.ts";
import type { Fields } from "../fields.ts";
import type { Offered } from "../offered.ts";
import { renaming } from "../renamed.ts";
import type { Served } from "../served.ts";
import { MESSAGES_API, RENAMES, readAnthropic } from "./request.ts";

export async function messages(offered: Offered, request: Request): Promise<Response> {
  return withModel(offered, request, (served, fields) => answerMessages(served, fields, request));
}

async function answerMessages(served: Served, fields: Fields, request: Request): Promise<Response> {
  const { asked, promptTokens, answers } = await renaming(RENAMES, async () => {
    const asked = await read(served, fields, request, false);
    return { asked, ...(await admitAnswers(served, request, asked)) };
  });
  const [answer] = answers;
  const frame = {
    id: `msg_${crypto.randomUUID().replaceAll("-", "")}`,
    type: "message",
    role: "assistant",
    model: served.names[0],
  };
  if (asked.stream) return streamed(served, promptTokens, answer, frame);
  const content: Block[] = [];
  const ending = await answer.start({ onUpdate: ({ part }) => add(content, part) });
  return Response.json({ ...frame, content, ...endOf(ending), usage: usageOf(ending.result) });
}

export async function countTokens(offered: Offered, request: Request): Promise<Response> {
  return withModel(offered, request, async (served, fields) => {
    const asked = await renaming(RENAMES, () => read(served, fields, request, true));
    return Response.json({ input_tokens: (await promptOf(served, asked, request.signal)).length });
  });
}

/** An error as Anthropic's clients read it. */
export function anthropicError({ status, message }: ApiError) {
  const type = TYPES[status] ?? (status < 500 ? "invalid_request_error" : "api_error");
  return { type: "error", error: { type, message } };
}

const TYPES: Readonly<Record<number, string>> = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
  503: "overloaded_error",
};

async function withModel(
  offered: Offered,
  request: Request,
  work: (served: Served, fields: Fields) => Promise<Response>,
): Promise<Response> {
  const fields = await renaming(RENAMES, () => readBody(request, offered.shared, MESSAGES_API));
  const { signal } = request;
  return offered.use({ name: fields.text("model"), signal }, (served) => work(served, fields));
}

function read(served: Served, fields: Fields, request: Request, isCount: boolean) {
  return inSlices(readAnthropic(fields, served, isCount), "reading the request", request.signal);
}

type Block =
  | { type: "text"; text: string; citations: null }
  | { type: "thinking"; thinking: string; signature: string }
  | { type: "tool_use"; id: string; name: string; input: unknown };

function blockOf(part: AnswerPart): Block {
  if (part.kind === "call") {
    const { id, name, arguments: input } = part.call;
    return { type: "tool_use", id, name, input };
  }
  return part.kind === "text"
    ? { type: "text", text: "", citations: null }
    : { type: "thinking", thinking: "", signature: "" };
}

/** Whether the part goes on with the block; a call is a block of its own. */
function goesOn(block: Block | undefined, part: AnswerPart): boolean {
  return (
    (block?.type === "text" && part.kind === "text") ||
    (block?.type === "thinking" && part.kind === "reasoning")
  );
}

function add(content: Block[], part: AnswerPart): void {
  if (!goesOn(content.at(-1), part)) content.push(blockOf(part));
  const last = content[content.length - 1];
  if (part.kind === "call") return;
  if (last.type === "text") last.text += part.text;
  else if (last.type === "thinking") last.thinking += part.text;
}

function streamed(served: Served, promptTokens: number, answer: Answering, frame: object): Response {
  return eventResponse({
    isTyped: true,
    async write({ send }) {
      const start = { input_tokens: promptTokens, output_tokens: 0 };
      const empty = { content: [], stop_reason: null, stop_sequence: null, usage: start };
      await send({ type: "message_start", message: { ...frame, ...empty } });
      let index = -1;
      let open: Block | undefined;
      const stop = async () => {
        if (open) await send({ type: "content_block_stop", index });
        open = undefined;
      };
      const ending = await answer.start({
        async onUpdate({ part }) {
          if (!goesOn(open, part)) {
            await stop();
            open = blockOf(part);
            index++;
            // The input comes as a delta to an empty object.
            const content_block = open.type === "tool_use" ? { ...open, input: {} } : open;
            await send({ type: "content_block_start", index, content_block });
          }
          await send({ type: "content_block_delta", index, delta: deltaOf(part) });
          if (part.kind === "call") await stop();
        },
      });
      await stop();
      await send({ type: "message_delta", delta: endOf(ending), usage: usageOf(ending.result) });
      await send({ type: "message_stop" });
    },
    onGone: answer.cancel,
    describe: (error) => anthropicError(toApiError(error, served.log)),
  });
}

function deltaOf(part: AnswerPart) {
  if (part.kind === "call")
    return { type: "input_json_delta", partial_json: JSON.stringify(part.call.arguments) };
  return part.kind === "text"
    ? { type: "text_delta", text: part.text }
    : { type: "thinking_delta", thinking: part.text };
}

function endOf({ finish, result }: Ending) {
  const { stopReason, stopText = null } = result;
  const reasons = {
    stop: stopReason === "stop" ? "stop_sequence" : "end_turn",
    length: "max_tokens",
    tool_calls: "tool_use",
  };
  return { stop_reason: reasons[finish], stop_sequence: stopReason === "stop" ? stopText : null };
}

/** Tokens from the cache are counted separately. */
function usageOf({ promptTokens, reusedTokens, generatedTokens }: GenerationResult) {
  return {
    input_tokens: promptTokens - reusedTokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: reusedTokens,
    output_tokens: generatedTokens,
  };
}
