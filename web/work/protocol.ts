/**
 * Requests of the page to its worker, their progress and results. Types only: both sides import
 * them, and neither imports the other. Values must be structured-cloneable.
 */

import type {
  AttendFinding,
  AttendProgress,
  AttendTests,
  ChatMessage,
  ErrorCode,
  KvRate,
  PlanTable,
  PlanTableOptions,
  SampleOptions,
  StopReason,
} from "../../src/browser.ts";
import type { Section } from "../../src/page.ts";

interface OpenAsk {
  /** An absolute URL, or files that were chosen. */
  readonly source: string | readonly File[];
  /** Positions; null: a modest number, or what the model was trained for when that is less. */
  readonly context: number | null;
  /** "": the device's default. */
  readonly kv: string;
}

/** The size of a format's caches. */
export interface FormatRates {
  readonly name: string;
  readonly rates: readonly KvRate[];
}

/** A model that is loaded, in the numbers of its plan. */
export interface Opened {
  readonly device: string;
  readonly kv: string;
  readonly context: number;
  readonly rates: readonly KvRate[];
  readonly formats: readonly FormatRates[];
  readonly hasTemplate: boolean;
  /** The section of reasoning that its prompts open. */
  readonly section: Section | null;
}

interface AnswerAsk {
  readonly messages: readonly ChatMessage[];
  readonly sampling: SampleOptions;
  readonly maxTokens?: number;
}

type AnswerProgress =
  | { readonly kind: "reading"; readonly tokens: number; readonly total: number }
  | {
      readonly kind: "text";
      readonly text: string;
      readonly generated: number;
      /** Tokens in the cache. */
      readonly held: number;
    };

export interface Answered {
  readonly stopReason: StopReason;
  readonly promptTokens: number;
  readonly reusedTokens: number;
  readonly generatedTokens: number;
  readonly draftedTokens: number;
  readonly acceptedTokens: number;
  readonly promptMs: number;
  readonly generateMs: number;
}

export interface PlanAsk extends PlanTableOptions {
  readonly shape: string;
  readonly type: string;
}

/** `shortfall`: the error's sentence. `shapes`: all that can be asked for, and for how many tokens each was trained. */
export type Planned = Omit<PlanTable, "shortfall"> & {
  readonly shortfall: string | null;
  readonly shapes: Readonly<Record<string, number>>;
};

export type BenchAsk = Pick<AttendTests, "shapes" | "tokens" | "prompt" | "dequantized">;

/** What is being measured, or all rows so far with their plot as SVG. */
export type BenchProgress =
  | { readonly kind: "doing"; readonly progress: AttendProgress }
  | { readonly kind: "rows"; readonly rows: readonly AttendFinding[]; readonly plot: string };

/** Each piece of work by name: its question, what is reported while it runs, its result. */
export interface Work {
  open: { ask: OpenAsk; progress: { readonly bytes: number; readonly totalBytes: number }; gives: Opened };
  answer: { ask: AnswerAsk; progress: AnswerProgress; gives: Answered };
  count: { ask: string; progress: never; gives: number };
  bench: { ask: BenchAsk; progress: BenchProgress; gives: null };
  plan: { ask: PlanAsk; progress: never; gives: Planned };
}

export type WorkName = keyof Work;

export type ToWorker =
  | { readonly id: number; readonly name: WorkName; readonly ask: unknown }
  | { readonly id: number; readonly stop: true };

export type FromWorker =
  | { readonly id: number; readonly progress: unknown }
  | { readonly id: number; readonly gives: unknown }
  | { readonly id: number; readonly code: ErrorCode | null; readonly message: string };

/** One piece of work; `report` sends its progress to the page. */
export type Doing<Name extends WorkName> = (
  ask: Work[Name]["ask"],
  report: (progress: Work[Name]["progress"]) => void,
  signal: AbortSignal,
) => Promise<Work[Name]["gives"]>;
