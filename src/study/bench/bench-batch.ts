/**
 * Speed of several parallel texts, as llama-batched-bench measures it: all prompts are read, then all texts generate.
 */
import { blocksOf } from "../../cache/layers.ts";
import { PAGE_SLOTS } from "../../device/contract.ts";
import { median } from "../../device/median.ts";
import type { PlanOptions } from "../../engine/plan.ts";
import { sampler } from "../../engine/sample.ts";
import type { Scheduler } from "../../engine/scheduler.ts";
import { Text } from "../../engine/text.ts";
import type { BenchTests } from "./bench-tests.ts";

/** Several texts together, with llama-batched-bench's names. */
export interface BatchRow {
  readonly kind: "batch";
  /** "pp512 tg128 x 8 @ d4096" */
  readonly test: string;
  /** Tokens of each prompt, tokens that each generates, texts. */
  readonly pp: number;
  readonly tg: number;
  readonly texts: number;
  /** Tokens before each text, which are read first. */
  readonly depth: number;
  /** Tokens that all have at the end. */
  readonly tokens: number;
  /** Until the last prompt was read, from there until the last token, and both. */
  readonly prompt: BatchSpeed;
  readonly generate: BatchSpeed;
  readonly all: BatchSpeed;
}

/** Speed of all texts together. */
interface BatchSpeed {
  /** By repetition. */
  readonly ms: readonly number[];
  readonly medianMs: number;
  readonly tokensPerSecond: number;
}

interface BatchOptions {
  random(): number;
  report(doing: string, total: number): (done: number) => void;
  signal?: AbortSignal;
}

/** What such tests need of a plan: one more page for each text, which two share until they diverge. */
export function batchPlan(
  { parallel }: Required<BenchTests>,
  context: number,
): Pick<PlanOptions, "parallel" | "cacheTokens"> {
  if (parallel.length === 0) return {};
  const most = Math.max(...parallel);
  return { parallel: most, cacheTokens: most * (blocksOf(context) + 1) * PAGE_SLOTS };
}

export async function* benchBatch(
  scheduler: Scheduler,
  depth: number,
  { parallel, prompt, generate, repetitions }: Required<BenchTests>,
  { random, report, signal }: BatchOptions,
): AsyncGenerator<BatchRow> {
  const ids = (count: number) => Array.from({ length: count }, random);
  const prefixes = Array.from({ length: Math.max(...parallel) }, () => ids(depth));
  for (const count of parallel)
    for (const pp of prompt.length > 0 ? prompt : [0])
      for (const tg of generate.length > 0 ? generate : [0]) {
        const test = `pp${pp} tg${tg} x ${count}${depthSuffix(depth)}`;
        const onProgress = report(test, repetitions * count * (pp + tg));
        const texts = Array.from({ length: count }, () => new Text(scheduler));
        const promptMs: number[] = [];
        const generateMs: number[] = [];
        let done = 0;
        for (let i = 0; i < repetitions; i++) {
          if (depth > 0) {
            const filled = report(`filling ${count} times ${depth} tokens`, count * depth);
            const reading = texts.map(async (text, t) => {
              const reused = await text.read(prefixes[t], { signal });
              // As bench.ts has it: a fill's last steps are not the next test's.
              if (reused < depth) await text.sync(prefixes[t], { signal });
            });
            await Promise.all(reading);
            filled(count * depth);
          }
          // A text without a prompt continues after one token.
          const prompts = texts.map((_, t) => [...prefixes[t].slice(0, depth), ...ids(Math.max(pp, 1))]);
          let started = performance.now();
          const next = () => {
            const now = performance.now();
            const ms = now - started;
            started = now;
            return ms;
          };
          if (pp > 0) await Promise.all(texts.map((text, t) => text.sync(prompts[t], { signal })));
          promptMs.push(next());
          onProgress((done += count * pp));
          if (tg > 0) await Promise.all(texts.map((text, t) => generated(text, prompts[t], tg, signal)));
          generateMs.push(next());
          onProgress((done += count * tg));
        }
        yield {
          kind: "batch",
          test,
          ...{ pp, tg, texts: count, depth },
          tokens: count * (depth + pp + tg),
          prompt: speed(promptMs, count * pp),
          generate: speed(generateMs, count * tg),
          all: speed(
            promptMs.map((ms, i) => ms + generateMs[i]),
            count * (pp + tg),
          ),
        };
      }
}

function speed(ms: readonly number[], tokens: number): BatchSpeed {
  const medianMs = median(ms);
  return { ms, medianMs, tokensPerSecond: tokens > 0 ? (tokens * 1000) / medianMs : 0 };
}

/** llama-bench's. */
export function depthSuffix(depth: number): string {
  return depth === 0 ? "" : ` @ d${depth}`;
}

/** Greedy: the same number of steps, the first with the prompt's last token. */
async function generated(text: Text, ids: readonly number[], most: number, signal?: AbortSignal) {
  const tokens = text.generate(ids, sampler({ temperature: 0, seed: 0 }), { most, guess: false, signal });
  try {
    while (await tokens.next());
  } finally {
    tokens.end();
  }
}
