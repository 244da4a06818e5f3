/** The output of /stats and /context: figures of a chat as lines of text. */
import { type GenerationResult, kvBytes } from "../index.ts";
import { bytes, grouped, guessedWords, perSecond } from "../plot/numbers.ts";
import type { Chat } from "./chat-turns.ts";

const WIDTH = 32;

export function statisticsLines({ model, results }: Pick<Chat, "model" | "results">): string[] {
  const { kv, context, cacheBytes, weightBytes } = model.plan;
  const sum = (of: (result: GenerationResult) => number) =>
    results.reduce((all, result) => all + of(result), 0);
  const last = results.at(-1);
  const prompts = sum(({ promptTokens }) => promptTokens);
  const reused = sum(({ reusedTokens }) => reusedTokens);
  const f16 = kv === "f16" ? "" : `; f16: ${bytes(kvBytes(model.plan, "f16"))}`;
  return [
    ...(last ? lastAnswer(last) : ["last answer  none yet"]),
    `all          ${results.length} answers: ${grouped(prompts)} prompt tokens, ${grouped(reused)} of them reused; ${grouped(sum(({ generatedTokens }) => generatedTokens))} tokens generated`,
    `cache        ${bytes(cacheBytes)} ${kv} for ${grouped(context)} tokens${f16}`,
    `weights      ${bytes(weightBytes)}`,
    `device       ${model.device}`,
  ];
}

function lastAnswer(result: GenerationResult): string[] {
  const { promptTokens, reusedTokens, promptMs, generatedTokens, generateMs } = result;
  const read = promptTokens - reusedTokens;
  const guessed = guessedWords(result);
  return [
    `last prompt  ${grouped(promptTokens)} tokens: ${grouped(reusedTokens)} reused from the cache, ${grouped(read)} read${perSecond(read, promptMs)}`,
    // The first token comes with the prompt: n tokens are n - 1 steps.
    `last answer  ${grouped(generatedTokens)} tokens${perSecond(generatedTokens - 1, generateMs)}${guessed === "" ? "" : `, ${guessed}`}`,
  ];
}

/** How full the context is, and of what. */
export function contextLines(chat: Pick<Chat, "model" | "conversation" | "tokens">): string[] {
  const { model, conversation } = chat;
  const { context } = model.plan;
  const used = chat.tokens();
  const count = (text: string) => model.tokenizer.encode(text).length;
  const rows: [string, number][] = [
    ...(conversation.system === null ? [] : [["system", count(conversation.system)] as [string, number]]),
    ...conversation.turns.flatMap(({ question, answer }, i): [string, number][] => [
      [`question ${i + 1}`, count(question)],
      [`answer ${i + 1}`, count(answer)],
    ]),
    ...conversation.waiting.map((text, i): [string, number] => [`document ${i + 1}, waiting`, count(text)]),
  ];
  const template = used - rows.reduce((sum, [, tokens]) => sum + tokens, 0);
  if (template > 0) rows.push(["template", template]);
  const filled = Math.min(WIDTH, Math.round((WIDTH * used) / context));
  return [
    `${grouped(used)} of ${grouped(context)} tokens  ${"█".repeat(filled)}${"░".repeat(WIDTH - filled)}`,
    ...rows.map(([label, tokens]) => `  ${label.padEnd(22)}${grouped(tokens).padStart(9)}`),
  ];
}
