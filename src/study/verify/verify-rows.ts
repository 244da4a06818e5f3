/** What `verify` reports, row by row. */
import type { DivergenceSummary } from "./divergence.ts";

/** A format has been loaded. */
export interface FormatRow {
  readonly kind: "format";
  readonly kv: string;
  /** What computes, for people. */
  readonly device: string;
  readonly context: number;
  readonly cacheBytes: number;
}

/** `divergence` is null for f16, with which the others are compared. */
export interface FormatMeasures {
  readonly kv: string;
  readonly positions: number;
  readonly perplexity: number;
  readonly divergence: DivergenceSummary | null;
}

/** What a cache format costs at one depth of the text. */
export interface DepthRow extends FormatMeasures {
  readonly kind: "depth";
  /** Tokens before the first measured position; null: all depths together. */
  readonly depth: number | null;
}

/** A fact that was hidden in a text and asked for. */
export interface NeedleRow {
  readonly kind: "needle";
  readonly kv: string;
  /** Approximate tokens of the prompt. */
  readonly tokens: number;
  /** The depth of the facts, from 0 to 1. */
  readonly depth: number;
  readonly right: number;
  readonly asked: number;
}

/**
 * The tokens that the model answered with f16, when asked for needles; other formats read them instead of generating.
 */
export interface AnswerRow extends FormatMeasures {
  readonly kind: "answer";
  /** Approximate tokens of the prompt. */
  readonly tokens: number;
}

/** The same with one layer alone in the format, and all others in f16: shows where the loss arises. */
export interface LayerRow extends FormatMeasures {
  readonly kind: "layer";
  readonly layer: number;
  /** The depth, as in rows of depths. */
  readonly depth: number | null;
}

/** A row of a verification. */
export type VerifyRow = LayerRow | FormatRow | DepthRow | NeedleRow | AnswerRow | Verdict;

/** What a cache format costs, in a word and a sentence. */
export interface Verdict {
  readonly kind: "verdict";
  readonly kv: string;
  /** "reference" for f16 itself; "not judged" if the model can neither predict the text nor find needles. */
  readonly grade: Grade | "reference" | "not judged";
  /** The reason, in one line. */
  readonly text: string;
}

/** How much a cache format costs, in a word. */
export type Grade = "as f16" | "good" | "fair" | "poor";
