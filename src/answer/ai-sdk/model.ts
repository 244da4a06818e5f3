/**
 * A model as Vercel's AI SDK takes one (`nibble-llm/ai-sdk`): generateText, streamText, objects and tools. Converts between
 * its options and parts and ours. (https://ai-sdk.dev/providers/community-providers/custom-providers)
 */
import { AbortedError } from "../../format/errors.ts";
import type { Answer, AnswerResult } from "../answer.ts";
import type { AnswerOptions, LanguageModel } from "../model.ts";
import type { AnswerPart } from "../parts.ts";
import type { Schema } from "../schema.ts";
import { messagesOf } from "./prompt.ts";
import type { AiModel, CallOptions, Content, FinishReason, StreamPart, Usage, Warning } from "./types.ts";

export { type NibbleEmbedOptions, nibbleEmbedding } from "./embedding.ts";
export type { AiEmbeddingModel, AiModel } from "./types.ts";

/** Options of providerOptions.nibble: what the SDK has no names for. */
export type NibbleOptions = Pick<
  AnswerOptions,
  "minP" | "repeatPenalty" | "repeatLast" | "template" | "guess"
>;

/**
 *     const model = nibble(await load("hf:Qwen/Qwen3-4B-GGUF"));
 *     const { text } = await generateText({ model, prompt: "What is a whale?" });
 *
 * The model stays the caller's to close.
 */
export function nibble(model: LanguageModel): AiModel {
  const ask = (options: CallOptions) => {
    const warnings: Warning[] = [];
    const asked = optionsOf(options, warnings);
    return { warnings, answer: model.generate(messagesOf(options.prompt), asked) };
  };
  return {
    specificationVersion: "v3",
    provider: "nibble",
    modelId: model.config.name,
    supportedUrls: {},
    async doGenerate(options) {
      const { answer, warnings } = ask(options);
      const content: Content[] = [];
      for await (const part of answer.parts()) add(content, part);
      const result = await resultOf(answer);
      return { content, finishReason: finishOf(result, content), usage: usageOf(result), warnings };
    },
    async doStream(options) {
      const { answer, warnings } = ask(options);
      return { stream: streamOf(answer, warnings) };
    },
  };
}

function optionsOf(options: CallOptions, warnings: Warning[]): AnswerOptions<Schema | undefined> {
  const { maxOutputTokens, stopSequences, responseFormat, tools, toolChoice, abortSignal } = options;
  const { temperature, topP, topK, presencePenalty, frequencyPenalty, seed } = options;
  const ours = (options.providerOptions?.nibble ?? {}) as NibbleOptions;
  const functions = (tools ?? []).flatMap((tool) => {
    if (tool.type === "function") return [tool];
    warnings.push({ type: "unsupported", feature: `tool ${tool.name}`, details: "it is a provider's own" });
    return [];
  });
  const json =
    responseFormat?.type === "json" ? ((responseFormat.schema ?? { type: "object" }) as Schema) : undefined;
  const given = { temperature, topP, topK, presencePenalty, frequencyPenalty, seed, ...ours };
  return {
    ...(Object.fromEntries(
      Object.entries(given).filter(([, value]) => value !== undefined),
    ) as NibbleOptions),
    ...(maxOutputTokens === undefined ? {} : { maxTokens: maxOutputTokens }),
    ...(stopSequences === undefined ? {} : { stop: stopSequences }),
    ...(abortSignal === undefined ? {} : { signal: abortSignal }),
    ...(json === undefined ? {} : { schema: json }),
    ...(functions.length === 0
      ? {}
      : {
          tools: functions.map(({ name, description, inputSchema, strict }) => ({
            ...{ name, description, strict, parameters: inputSchema as Schema },
          })),
          toolChoice:
            toolChoice?.type === "tool" ? { name: toolChoice.toolName } : (toolChoice?.type ?? "auto"),
        }),
  };
}

/** The SDK reads the object itself; that an answer was cut shows in its finish reason. */
async function resultOf(answer: Answer<unknown>): Promise<Pick<AnswerResult, keyof Usages | "stopReason">> {
  return answer.generationResult();
}

type Usages = Pick<AnswerResult, "promptTokens" | "reusedTokens" | "generatedTokens">;

function add(content: Content[], part: AnswerPart): void {
  if (part.kind === "call") {
    content.push(callOf(part));
    return;
  }
  const last = content.at(-1);
  if (last?.type === part.kind) last.text += part.text;
  else content.push({ type: part.kind, text: part.text });
}

function callOf({ call }: AnswerPart & { kind: "call" }) {
  const input = JSON.stringify(call.arguments);
  return { type: "tool-call" as const, toolCallId: call.id, toolName: call.name, input };
}

function streamOf(answer: Answer<unknown>, warnings: Warning[]): ReadableStream<StreamPart> {
  const parts = streamParts(answer, warnings);
  return new ReadableStream<StreamPart>({
    async pull(controller) {
      const { done, value } = await parts.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      await parts.return(undefined);
    },
  });
}

async function* streamParts(
  answer: Answer<unknown>,
  warnings: Warning[],
): AsyncGenerator<StreamPart, undefined> {
  yield { type: "stream-start", warnings };
  let open: { kind: "text" | "reasoning"; id: string } | null = null;
  let count = 0;
  const calls: Content[] = [];
  try {
    for await (const part of answer.parts()) {
      if (open && open.kind !== part.kind) {
        yield { type: `${open.kind}-end`, id: open.id };
        open = null;
      }
      if (part.kind === "call") {
        const call = callOf(part);
        calls.push(call);
        yield { type: "tool-input-start", id: call.toolCallId, toolName: call.toolName };
        yield { type: "tool-input-delta", id: call.toolCallId, delta: call.input };
        yield { type: "tool-input-end", id: call.toolCallId };
        yield call;
        continue;
      }
      if (open === null) {
        open = { kind: part.kind, id: `${count++}` };
        yield { type: `${open.kind}-start`, id: open.id };
      }
      yield { type: `${part.kind}-delta`, id: open.id, delta: part.text };
    }
    if (open) yield { type: `${open.kind}-end`, id: open.id };
    const result = await resultOf(answer);
    yield { type: "finish", usage: usageOf(result), finishReason: finishOf(result, calls) };
  } catch (error) {
    // After a stop no more parts are expected; the SDK knows by its own signal.
    if (error instanceof AbortedError) throw new DOMException(error.message, "AbortError");
    yield { type: "error", error };
  }
}

function finishOf(
  { stopReason }: Pick<AnswerResult, "stopReason">,
  content: readonly Content[],
): FinishReason {
  const isCalled = content.some(({ type }) => type === "tool-call");
  const isEnd = stopReason === "end" || stopReason === "stop";
  return { unified: isEnd ? (isCalled ? "tool-calls" : "stop") : "length", raw: stopReason };
}

function usageOf({ promptTokens, reusedTokens, generatedTokens }: Usages): Usage {
  return {
    inputTokens: {
      ...{ total: promptTokens, noCache: promptTokens - reusedTokens, cacheRead: reusedTokens },
      cacheWrite: undefined,
    },
    outputTokens: { total: generatedTokens, text: undefined, reasoning: undefined },
  };
}
