/** What a generation cost and why it ended, in the API's names; `timings` in ours. */
import type { GenerationResult, StopReason } from "../../index.ts";
import { rate } from "../../plot/numbers.ts";

function usageOf(result: GenerationResult) {
  const { promptTokens, reusedTokens, generatedTokens, draftedTokens, acceptedTokens } = result;
  return {
    prompt_tokens: promptTokens,
    completion_tokens: generatedTokens,
    total_tokens: promptTokens + generatedTokens,
    prompt_tokens_details: { cached_tokens: reusedTokens },
    // Rejected ones are not part of the answer and not counted among its tokens.
    completion_tokens_details: {
      accepted_prediction_tokens: acceptedTokens,
      rejected_prediction_tokens: draftedTokens - acceptedTokens,
    },
  };
}

/**
 * Usage of several answers to one prompt. The prompt is counted once; cached tokens are those of the first answer that
 * ran.
 */
export function usageOfAll(results: readonly GenerationResult[]) {
  const sum = (of: (result: GenerationResult) => number) =>
    results.reduce((all, result) => all + of(result), 0);
  return usageOf({
    ...results[0],
    reusedTokens: Math.min(...results.map(({ reusedTokens }) => reusedTokens)),
    generatedTokens: sum(({ generatedTokens }) => generatedTokens),
    draftedTokens: sum(({ draftedTokens }) => draftedTokens),
    acceptedTokens: sum(({ acceptedTokens }) => acceptedTokens),
  });
}

/** While the answer streams, as vLLM's "continuous_usage_stats" asks for it: how full the context is. */
export function usageSoFar(promptTokens: number, generatedTokens: number) {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: generatedTokens,
    total_tokens: promptTokens + generatedTokens,
  };
}

export function timingsOf({
  promptTokens,
  reusedTokens,
  promptMs,
  generatedTokens,
  generateMs,
}: GenerationResult) {
  return {
    prompt_ms: promptMs,
    prompt_tokens_per_second: rate(promptTokens - reusedTokens, promptMs),
    generate_ms: generateMs,
    // The first token comes with the prompt: n tokens are n - 1 steps.
    generate_tokens_per_second: rate(generatedTokens - 1, generateMs),
  };
}

const FINISH: Readonly<Record<StopReason, "stop" | "length">> = {
  end: "stop",
  stop: "stop",
  length: "length",
  repeats: "length",
  context: "length",
  cache: "length",
  left: "stop",
};

export function finishReason(reason: StopReason): "stop" | "length" {
  return FINISH[reason];
}
