/**
 * The gain of guessing ahead if an answer quotes: the same generation with and without it, interleaved, so that the
 * machine affects both equally. The prompt is a document several times and its beginning, which even small models then
 * continue.
 */
import { median } from "../../device/median.ts";
import { sampler } from "../../engine/sample.ts";
import type { Scheduler } from "../../engine/scheduler.ts";
import { Text } from "../../engine/text.ts";
import type { Tokenizer } from "../../format/tokenizer.ts";

/** Speed of an answer that quotes a text, with and without guessing ahead. */
export interface QuoteRow {
  readonly kind: "quote";
  /** "quote128 @ d800" */
  readonly test: string;
  readonly tokens: number;
  readonly depth: number;
  /** Time from the first token to the last, by repetition. */
  readonly plainMs: readonly number[];
  readonly guessedMs: readonly number[];
  /** Medians. */
  readonly plainTokensPerSecond: number;
  readonly guessedTokensPerSecond: number;
  /** The ratio of the two medians: how much faster guesses are. */
  readonly ratio: number;
  /** For one generation: guesses that were checked, and right ones. */
  readonly drafted: number;
  readonly accepted: number;
  /** Whether the text is the same with guesses. */
  readonly isSame: boolean;
}

const DOCUMENT_TOKENS = 256;
const TIMES = 3;
const BEGUN_TOKENS = 32;

/** Tokens of the prompt, at most. */
export const QUOTE_DEPTH = TIMES * DOCUMENT_TOKENS + BEGUN_TOKENS + 1;

/**
 * The prompt for a text to quote. Without a tokenizer its characters are ids: random weights repeat themselves after
 * any.
 */
export function quotePrompt(tokenizer: Tokenizer | null, text: string, vocab: number): number[] {
  const characters = () => Array.from({ length: text.length }, (_, i) => text.charCodeAt(i) % vocab);
  const document = (tokenizer ? tokenizer.encode(text) : characters()).slice(0, DOCUMENT_TOKENS);
  const bos = tokenizer?.addBos && tokenizer.bosId !== null ? [tokenizer.bosId] : [];
  return [
    ...bos,
    ...Array.from({ length: TIMES }, () => document).flat(),
    ...document.slice(0, BEGUN_TOKENS),
  ];
}

export async function* benchQuote(
  scheduler: Scheduler,
  prompt: readonly number[],
  { generate, repetitions }: { generate: readonly number[]; repetitions: number },
  { report, signal }: { report(doing: string, total: number): (done: number) => void; signal?: AbortSignal },
): AsyncGenerator<QuoteRow> {
  for (const count of generate) {
    const test = `quote${count} @ d${prompt.length}`;
    const onProgress = report(test, 2 * (repetitions + 1) * count);
    const ms = { plain: [] as number[], guessed: [] as number[] };
    const last = { plain: "", guessed: "" };
    let [drafted, accepted, done] = [0, 0, 0];
    // The first of each warms up, and measures the costs of steps.
    for (let i = 0; i <= repetitions; i++)
      for (const name of i % 2 === 0 ? (["plain", "guessed"] as const) : (["guessed", "plain"] as const)) {
        const text = new Text(scheduler);
        const options = { most: count, guess: name === "guessed", signal };
        const tokens = text.generate(prompt, sampler({ temperature: 0, seed: 0 }), options);
        const ids: number[] = [];
        let started = 0;
        try {
          for (let token = await tokens.next(); token; token = await tokens.next()) {
            if (ids.length === 0) started = performance.now();
            ids.push(token.id);
            onProgress(++done);
          }
        } finally {
          tokens.end();
        }
        last[name] = ids.join();
        if (name === "guessed") ({ drafted, accepted } = tokens);
        if (i > 0) ms[name].push(performance.now() - started);
      }
    const speed = (times: readonly number[]) => ((count - 1) * 1000) / median(times);
    const [plain, guessed] = [speed(ms.plain), speed(ms.guessed)];
    yield {
      ...{
        kind: "quote",
        test,
        tokens: count,
        depth: prompt.length,
        plainMs: ms.plain,
        guessedMs: ms.guessed,
      },
      ...{ plainTokensPerSecond: plain, guessedTokensPerSecond: guessed, ratio: guessed / plain },
      ...{ drafted, accepted, isSame: last.plain === last.guessed },
    };
  }
}
