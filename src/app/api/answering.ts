/**
 * From a checked request to the parts of its answer as they come, for all endpoints with chat messages: tokens, grammar and
 * admission before anything is generated, then updates, which each endpoint writes in its own form.
 */
import { afterReasoning, answerStart } from "../../answer/grammar/after-reasoning.ts";
import type { OpenGrammar } from "../../answer/grammar/grammar.ts";
import { HARMONY } from "../../answer/harmony.ts";
import type { AnswerPart, CallReading } from "../../answer/parts.ts";
import { Reading } from "../../answer/reading.ts";
import type {
  ChatMessage,
  GenerateOptions,
  GenerationResult,
  Likelihood,
  Prompt,
  RenderOptions,
} from "../../index.ts";
import { type AdmittedRun, admit } from "./admit.ts";
import { unsupported } from "./errors.ts";
import { type Format, openFormat } from "./format.ts";
import { likelihoodsOf } from "./logprobs.ts";
import { encode, fitting, type Served } from "./served.ts";
import { finishReason } from "./usage.ts";

/** What is to be answered. */
export interface Question {
  readonly messages: readonly ChatMessage[];
  /** The beginning of the answer, to be continued; "": none. */
  readonly begun: string;
  /** Variables of the template. */
  readonly template: RenderOptions;
  readonly generate: GenerateOptions;
  /** null: no tools were given. */
  readonly calls: CallReading | null;
  /** What the answer must match, after its reasoning; null: anything. */
  readonly format: Format | null;
}

/** What is new in an answer, and its tokens. */
interface AnswerUpdate {
  readonly part: AnswerPart;
  readonly tokens: readonly Likelihood[];
  /** Tokens of the answer so far. */
  readonly generated: number;
}

export interface Ending {
  readonly said: Pick<Reading, "text" | "reasoning" | "calls">;
  readonly result: GenerationResult;
  readonly finish: "stop" | "length" | "tool_calls";
  /** Likelihoods of tokens whose text is not part of the answer. */
  readonly tokens: readonly Likelihood[];
}

/** While a prompt is read: its tokens in the cache or read, and how many of these the cache had before. */
interface ReadProgress {
  readonly total: number;
  readonly cache: number;
  readonly processed: number;
  readonly time_ms: number;
}

interface AnswerListener {
  onUpdate(update: AnswerUpdate): void | Promise<void>;
  onProgress?(progress: ReadProgress): void;
}

/** One admitted answer. */
export interface Answering {
  /** Generates. Must be called at once, and once. */
  start(listener: AnswerListener): Promise<Ending>;
  cancel(): void;
}

/** The prompt's tokens; other clients are answered meanwhile. ContextError when they do not fit. */
export function promptOf(served: Served, { messages, template }: Question, signal: AbortSignal) {
  return encode(served, messages as Prompt, { template, signal });
}

/** Admits `count` answers to one prompt, which is read once. Each has its own seed. */
export async function admitAnswers(
  served: Served,
  request: Request,
  question: Question,
  count = 1,
): Promise<{ readonly promptTokens: number; readonly answers: readonly Answering[] }> {
  const { signal } = request;
  const { begun, generate, calls, format } = question;
  const promptIds = await promptOf(served, question, signal);
  const { tokenizer, chatTemplate } = served.model;
  const ids =
    begun === "" ? promptIds : fitting(served, await served.model.begin(promptIds, begun, { signal }));
  const answerAt = answerStart(promptIds, tokenizer, chatTemplate);
  const { opened } = answerAt;
  if (opened === HARMONY && begun !== "")
    throw unsupported("messages", "this model's answers have channels, so one cannot be begun");
  if (opened && begun !== "" && !begun.includes(opened.close))
    throw unsupported(
      "messages",
      `the answer that is begun has to end the reasoning that the template opens, by ${opened.close}`,
    );
  const asked = { ids, format, count, generate };
  const runs = await admitAll(served, request, asked, (grammar) =>
    format?.grammar.isWhole ? grammar : afterReasoning(grammar, answerAt, tokenizer),
  );
  const answers = runs.map((run) => {
    const { stop } = generate;
    const reading = new Reading({ tokenizer, opened: begun === "" ? opened : "begun", calls, stop });
    const start = (listener: AnswerListener) => startAnswer(served, run, reading, listener, ids.length);
    return { start, cancel: run.cancel };
  });
  return { promptTokens: ids.length, answers };
}

/**
 * `count` generations of these ids, each with its own seed and grammar, as `delayed` makes it begin. If one is not
 * admitted, none is left waiting.
 */
export async function admitAll(
  served: Served,
  request: Request,
  asked: {
    readonly ids: readonly number[];
    readonly format: Format | null;
    readonly count: number;
    readonly generate: GenerateOptions & { readonly raw?: boolean };
  },
  delayed: (grammar: OpenGrammar) => OpenGrammar = (grammar) => grammar,
): Promise<AdmittedRun[]> {
  const { ids, format, count, generate } = asked;
  const runs: AdmittedRun[] = [];
  try {
    for (let i = 0; i < count; i++) {
      const grammar = format && (await openFormat(served, request, format));
      const seed = generate.seed === undefined ? undefined : generate.seed + i;
      runs.push(admit(served, request, ids, { ...generate, seed }, grammar && delayed(grammar)));
    }
    return runs;
  } catch (error) {
    for (const { cancel } of runs) cancel();
    throw error;
  }
}

/** Waits for several answers. If one fails, the others are cancelled. */
export async function together<One extends { cancel(): void }, T>(
  answers: readonly One[],
  each: (answer: One, index: number) => Promise<T>,
): Promise<T[]> {
  const all = answers.map(each);
  try {
    return await Promise.all(all);
  } catch (error) {
    for (const { cancel } of answers) cancel();
    await Promise.allSettled(all);
    throw error;
  }
}

/** Runs the generation and reports its progress. */
async function startAnswer(
  served: Served,
  run: AdmittedRun,
  reading: Reading,
  { onUpdate, onProgress }: AnswerListener,
  promptTokens: number,
): Promise<Ending> {
  let tokens: Likelihood[] = [];
  let generated = 0;
  const give = async () => {
    for (const part of reading.take()) {
      const update = { part, tokens, generated };
      tokens = [];
      await onUpdate(update);
    }
  };
  const started = performance.now();
  const onPrompt =
    onProgress &&
    ((done: number, total: number) => {
      const cache = promptTokens - total;
      const time_ms = Math.round(performance.now() - started);
      onProgress({ total: promptTokens, cache, processed: cache + done, time_ms });
    });
  const result = await run.start(async (piece) => {
    tokens = [...tokens, ...likelihoodsOf(piece, served.model.tokenizer)];
    generated += piece.ids.length;
    reading.push(piece.ids);
    await give();
  }, onPrompt);
  reading.end();
  await give();
  const finish = finishReason(result.stopReason);
  const isCalled = reading.calls.length > 0 && finish === "stop";
  return { said: reading, result, finish: isCalled ? "tool_calls" : finish, tokens };
}
