/**
 * A question, calls, results of tools, and again, until the model makes no more calls. Bounds the rounds, and decides what
 * the model gets as the result of a call that cannot be made.
 */
import { ArgumentError } from "../format/errors.ts";
import type { ChatMessage } from "../format/template.ts";
import type { AnswerResult } from "./answer.ts";
import { PlaceError } from "./errors.ts";
import type { AnswerOptions, LanguageModel } from "./model.ts";
import type { AnswerPart, ToolCall } from "./parts.ts";
import { checkedBy, type ObjectOf, type Schema } from "./schema.ts";
import type { Tool } from "./tool.ts";

/** Options of `runTools`: those of each answer, the tools, and how many rounds there may be. */
export interface RunToolsOptions<Asked extends Schema | undefined = undefined> extends AnswerOptions<Asked> {
  tools: readonly Tool[];
  /** Maximum number of answers, including the last. Default: 10. */
  rounds?: number;
  /** Called with each part of each answer as it comes. */
  onPart?: (part: AnswerPart) => void;
}

/** What `runTools` resolves with: the last answer, and the conversation that led to it. */
export interface ToolsResult<Found> {
  /** The last answer. */
  readonly result: AnswerResult<Found>;
  /** The conversation with all that was added, the last answer included. */
  readonly messages: readonly ChatMessage[];
  readonly rounds: number;
  /** The bound was reached, and the last answer's calls were not made. */
  readonly isCut: boolean;
}

const ROUNDS = 10;

/**
 * Lets the model call tools until it answers without calls. The calls of one answer run concurrently. For arguments that a
 * schema refuses and for unknown tools the model gets an error as the result; what a tool's function throws rejects. `toolChoice`
 * holds for the first answer only.
 */
export async function runTools<Asked extends Schema | undefined = undefined>(
  model: LanguageModel,
  messages: readonly ChatMessage[],
  options: RunToolsOptions<Asked>,
): Promise<ToolsResult<ObjectOf<Asked> | undefined>> {
  const { rounds: most = ROUNDS, onPart, toolChoice, ...asked } = options;
  if (!(Number.isInteger(most) && most >= 1)) throw new ArgumentError("rounds", most, "integers from 1 on");
  const all = [...messages];
  for (let rounds = 1; ; rounds++) {
    const first = rounds === 1 ? { toolChoice } : {};
    const answer = model.generate(all, { ...asked, ...first });
    for await (const part of answer.parts()) onPart?.(part);
    const result = await answer.result();
    all.push(result.message);
    const isCut = result.calls.length > 0 && rounds >= most;
    if (result.calls.length === 0 || isCut) return { result, messages: all, rounds, isCut };
    all.push(...(await Promise.all(result.calls.map((call) => answerOf(call, asked.tools, asked.signal)))));
  }
}

async function answerOf(
  { id, name, arguments: given }: ToolCall,
  tools: readonly Tool[],
  signal: AbortSignal | undefined,
): Promise<ChatMessage> {
  const answerOf = (value: unknown): ChatMessage => {
    const content = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
    return { role: "tool", tool_call_id: id, name, content };
  };
  const tool = tools.find((one) => one.name === name);
  if (!tool)
    return answerOf(`error: there is no tool ${name}; there is ${tools.map((one) => one.name).join(", ")}`);
  if (!tool.run) throw new ArgumentError(`tools: ${name}`, "without run", "a function that gives its answer");
  let input: unknown;
  try {
    input = tool.parameters ? await checkedBy(tool.parameters, given, "arguments") : given;
  } catch (error) {
    if (!(error instanceof PlaceError)) throw error;
    return answerOf(`error: ${error.message}`);
  }
  return answerOf(await tool.run(input, { signal }));
}
