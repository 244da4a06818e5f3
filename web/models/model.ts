/**
 * What answers: the page's one view of a server's model and of one that runs here. Defines the kinds of failures;
 * HTTP and workers are hidden.
 */

import type { ChatMessage, KvRate } from "../../src/browser.ts";
import type { StreamedPart } from "../../src/page.ts";
import { rate } from "../../src/page.ts";
import type { FormatRates } from "../work/protocol.ts";

/** What N tokens take in caches of these rates: sliding layers hold no more than their capacity. */
export function heldBytes(rates: readonly KvRate[], tokens: number): { bytes: number; f16Bytes: number } {
  const sum = (of: (rate: KvRate) => number) =>
    rates.reduce((all, rate) => all + Math.min(tokens, rate.capacity) * of(rate), 0);
  return { bytes: sum(({ tokenBytes }) => tokenBytes), f16Bytes: sum(({ tokenBytesF16 }) => tokenBytesF16) };
}

export interface AnswerFigures {
  readonly promptTokens: number;
  /** Prompt tokens that were in the cache already; null: not reported. */
  readonly reusedTokens: number | null;
  readonly generatedTokens: number;
  /** Guessed ahead and checked, and how many of them were right; null: not reported. */
  readonly draftedTokens: number | null;
  readonly acceptedTokens: number | null;
  /** Time from the question to the first token. */
  readonly promptMs: number;
  /** Time from the first token to the last. */
  readonly generateMs: number;
}

export interface AnswerOptions {
  readonly signal: AbortSignal;
  readonly settings: AnswerSettings;
  onParts(parts: readonly StreamedPart[]): void;
  /** Called while the prompt is read. */
  onReading?(tokens: number, total: number): void;
  /** Tokens in the cache. */
  onHeld?(tokens: number): void;
  /** The speed of the answer so far. */
  onSpeed?(tokensPerSecond: number): void;
}

interface AnswerSettings {
  /** null: the model's own default. */
  readonly temperature: number | null;
  readonly maxTokens: number | null;
}

/** Tokens of a short answer may arrive together, which gives no valid speed: WebKit delivered 7 tokens within 6 ms. */
const LEAST_MS = 50;

/** Tokens a second; null: too few, or in too short a time. The first token comes with the prompt: n tokens are n - 1 steps. */
export function answerSpeed({
  generatedTokens,
  generateMs,
}: Pick<AnswerFigures, "generatedTokens" | "generateMs">): number | null {
  return generateMs < LEAST_MS ? null : rate(generatedTokens - 1, generateMs);
}

/** end: the model ended; length: the limit of tokens; context: full. */
export type AnswerEnd = "end" | "length" | "context";

export interface AnswerResult {
  readonly end: AnswerEnd;
  /** null: not reported by the server. */
  readonly figures: AnswerFigures | null;
}

/**
 * lost: the connection broke, and the answer so far counts. device: the GPU is gone, the model has to be loaded again. key:
 * the server requires one. other: see the message.
 */
export type FailureKind = "lost" | "device" | "key" | "stopped" | "other";

export class AnswerFailure extends Error {
  constructor(
    readonly kind: FailureKind,
    message: string,
  ) {
    super(message);
  }
}

export interface TokenCount {
  readonly tokens: number;
  /** false: by a rule of thumb. */
  readonly isExact: boolean;
}

export interface ChatModel {
  /** For people. */
  readonly name: string;
  /** "this browser, NVIDIA ..." or the server's address. */
  readonly place: string;
  readonly kind: "server" | "here";
  /** null: not reported. */
  readonly context: number | null;
  /** The cache's format; null: not reported. */
  readonly kv: string | null;
  /** What the cache takes; null: not reported. */
  readonly rates: readonly KvRate[] | null;
  /** What other formats would take; []: not reported. */
  readonly formats: readonly FormatRates[];
  /** Rejects with AnswerFailure. */
  answer(messages: readonly ChatMessage[], options: AnswerOptions): Promise<AnswerResult>;
  count(text: string): Promise<TokenCount>;
  /** Whether it can answer; a model that runs here always can. */
  isThere?(signal: AbortSignal): Promise<boolean>;
  close(): void;
}

/** Measures the speed of answers: tokens a second since the first of them. */
export function speedometer(): (tokens: number) => number | null {
  let first: { at: number; tokens: number } | null = null;
  return (tokens) => {
    const at = performance.now();
    first ??= { at, tokens };
    const ms = at - first.at;
    return ms > 200 ? ((tokens - first.tokens) * 1000) / ms : null;
  };
}
