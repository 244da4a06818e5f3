/**
 * `nibble run`: one answer. Text streams to stdout; progress and statistics go to stderr when that is a terminal, so
 * that a pipe carries the answer and nothing else. The model is closed in any case.
 */

import { HARMONY } from "../answer/harmony.ts";
import { openedBy } from "../answer/part-streams.ts";
import { type GenerationResult, kvBytes, type LanguageModel, type SampleOptions, sampler } from "../index.ts";
import { bytes, grouped, guessedWords, perSecond, rate } from "../plot/numbers.ts";
import { printMessage } from "./exit.ts";
import { readInput, toPrompt } from "./input.ts";
import { write } from "./interrupt.ts";
import { loadModel, type ModelOptions } from "./load-model.ts";
import { progress } from "./progress.ts";
import { printable } from "./terminal.ts";

export interface RunOptions extends ModelOptions, SampleOptions {
  file: string[];
  tokens?: number;
  stop: string[];
  system?: string;
  ignoreEnd?: boolean;
  raw?: boolean;
  json?: boolean;
}

export async function run(name: string, prompt: string, options: RunOptions, signal: AbortSignal) {
  // Options and input first: a typing mistake should not cost the time to load a model.
  const { temperature, topK, topP, minP, repeatPenalty } = options;
  const { seed } = sampler(options);
  const sampling: SampleOptions = { temperature, topK, topP, minP, repeatPenalty, seed };
  const input = await readInput(prompt, options.file, signal, options.system);

  const started = performance.now();
  const model = await loadModel(name, options, signal);
  try {
    const loadMs = performance.now() - started;
    const result = await answer(model, input, options, sampling, signal);
    if (options.json) await write(`${JSON.stringify(describe(model, name, loadMs, result))}\n`, signal);
    else printStatistics(model, loadMs, result);
    tellLimit(result, options);
  } finally {
    await model.close();
  }
}

async function answer(
  model: LanguageModel,
  input: Awaited<ReturnType<typeof readInput>>,
  options: RunOptions,
  sampling: SampleOptions,
  signal: AbortSignal,
): Promise<GenerationResult> {
  const raw = options.raw ?? false;
  const started = performance.now();
  const reading = progress("reading", (done, total) => {
    return `${grouped(done)} of ${grouped(total)} tokens${perSecond(done, performance.now() - started)}`;
  });
  const isText = raw || model.chatTemplate === null;
  // Channels have no marks that a reader would know: only the text of such an answer is shown.
  const hasChannels = !isText && openedBy(model.chatTemplate!) === HARMONY;
  const generation = model.generate(toPrompt(input, isText), {
    ...sampling,
    maxTokens: options.tokens,
    stop: options.stop,
    ignoreEnd: options.ignoreEnd,
    raw,
    signal,
    onPrompt: reading.show,
  });
  let open = false;
  try {
    const show = async (text: string) => {
      if (options.json || text === "") return;
      await write(text, signal);
      open = !text.endsWith("\n");
    };
    if (hasChannels)
      for await (const part of generation.parts()) {
        reading.clear();
        if (part.kind === "text") await show(part.text);
      }
    else
      for await (const { text } of generation) {
        reading.clear();
        await show(text);
      }
  } finally {
    reading.clear();
    // Also after Ctrl-C: the shell's prompt should not follow half a sentence.
    if (open && !process.stdout.errored) process.stdout.write("\n");
  }
  const result = await generation.result();
  return hasChannels ? { ...result, text: result.content } : result;
}

/** What ended an answer without a limit of tokens. */
function tellLimit({ stopReason, generatedTokens }: GenerationResult, { tokens }: RunOptions): void {
  if (tokens !== undefined) return;
  const ended = `the answer was ended after ${grouped(generatedTokens)} tokens`;
  if (stopReason === "length") printMessage(null, `${ended}; --tokens COUNT allows more`);
  if (stopReason === "repeats")
    printMessage(null, `${ended}, the last of which repeat themselves; --tokens COUNT lets it go on`);
}

function printStatistics(model: LanguageModel, loadMs: number, result: GenerationResult): void {
  if (!process.stderr.isTTY) return;
  const { promptTokens, reusedTokens, promptMs, generatedTokens, generateMs } = result;
  const { kv, cacheBytes, context } = model.plan;
  const guessed = guessedWords(result);
  const parts = [
    `load ${(loadMs / 1000).toFixed(2)} s`,
    `prompt ${grouped(promptTokens)} tokens${perSecond(promptTokens - reusedTokens, promptMs)}`,
    // The first token comes with the prompt: n tokens are n - 1 steps.
    `answer ${grouped(generatedTokens)} tokens${perSecond(generatedTokens - 1, generateMs)}`,
    ...(guessed === "" ? [] : [guessed]),
    `cache ${bytes(cacheBytes)} ${kv} for ${grouped(context)} tokens${kv === "f16" ? "" : ` (f16: ${bytes(kvBytes(model.plan, "f16"))})`}`,
    printable(model.device),
    ...(model.chatTemplate === null ? ["no chat template: the prompt was continued as text"] : []),
  ];
  process.stderr.write(`\n${parts.join(" · ")}\n`);
}

/** What `--json` prints; names are part of the interface. */
function describe(model: LanguageModel, name: string, loadMs: number, result: GenerationResult) {
  const { promptTokens, reusedTokens, promptMs, generatedTokens, generateMs } = result;
  const { draftedTokens, acceptedTokens } = result;
  const { kv, context, weightBytes, cacheBytes, totalBytes, limitBytes } = model.plan;
  return {
    model: name,
    device: model.device,
    text: result.text,
    ids: result.ids,
    stopReason: result.stopReason,
    seed: result.seed,
    promptTokens,
    reusedTokens,
    generatedTokens,
    draftedTokens,
    acceptedTokens,
    loadMs,
    promptMs,
    generateMs,
    promptTokensPerSecond: rate(promptTokens - reusedTokens, promptMs),
    generateTokensPerSecond: rate(generatedTokens - 1, generateMs),
    plan: {
      kv,
      context,
      weightBytes,
      cacheBytes,
      cacheBytesF16: kvBytes(model.plan, "f16"),
      totalBytes,
      limitBytes,
    },
  };
}
