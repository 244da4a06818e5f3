/**
 * A bench of a model file, or of a shape with random weights, on a device by name: the context that the tests need, and
 * what a row says about the model. bench.ts measures.
 */

import { findModel } from "../../engine/find-model.ts";
import { guessWith } from "../../engine/guess-with.ts";
import { type LoadOptions, openDevice } from "../../engine/load.ts";
import { loadCheckpoint, tokenizerOf } from "../../engine/load-checkpoint.ts";
import { checkTokens, type LoadedDraft, loadDraft } from "../../engine/load-draft.ts";
import { closeAll, type LoadedModel } from "../../engine/loaded-model.ts";
import type { Plan } from "../../engine/plan.ts";
import { ArgumentError, throwIfAborted } from "../../format/errors.ts";
import { openCheckpoint } from "../../format/open.ts";
import { rowBytes } from "../../format/tensor.ts";
import type { Tokenizer } from "../../format/tokenizer.ts";
import { openModel } from "../../model/model.ts";
import type { ShapeOptions } from "../../model/shaped.ts";
import { syntheticCheckpoint } from "../../model/synthetic.ts";
import { type BenchFinding, type BenchOptions, bench, benchTail, benchTests, checkProfile } from "./bench.ts";
import { batchPlan } from "./bench-batch.ts";
import { quotePrompt } from "./bench-quote.ts";
import type { BenchTests } from "./bench-tests.ts";

/** Random weights in a known shape. */
export interface SyntheticModel extends Omit<ShapeOptions, "context"> {
  shape: string;
}

/** How a bench opens its model. */
export type BenchLoadOptions = Omit<
  LoadOptions,
  "context" | "parallel" | "cacheTokens" | "outputs" | "keepLabels"
>;

/** A loaded model and the tests that it was loaded for. */
export class Bench {
  readonly #parts: LoadedModel;
  readonly #tests: Required<BenchTests>;
  readonly #quoting: readonly number[];
  #draft: LoadedDraft | null = null;

  /** quoting: the prompt of the rows that quote. */
  constructor(parts: LoadedModel, tests: Required<BenchTests>, quoting: readonly number[] = []) {
    this.#parts = parts;
    this.#tests = tests;
    this.#quoting = quoting;
  }

  get plan(): Plan {
    return this.#parts.plan;
  }

  /** What computes, for people. */
  get device(): string {
    return this.#parts.device.description;
  }

  /** Its rows are for several texts at once. */
  get isBatch(): boolean {
    return this.#tests.parallel.length > 0;
  }

  get layers(): number {
    return this.#parts.model.config.layers.length;
  }

  /** Its rows compare quoting answers with and without guesses. */
  get isQuote(): boolean {
    return this.#quoting.length > 0;
  }

  /** The type of most of the weights' bytes. */
  get type(): string {
    const bytes = new Map<string, number>();
    for (const { type, rows, cols } of this.plan.graph.weights)
      bytes.set(type, (bytes.get(type) ?? 0) + rows * rowBytes(type, cols));
    return [...bytes].reduce((most, next) => (next[1] > most[1] ? next : most))[0];
  }

  /**
   * Takes over a smaller model, which guesses for this one, whose tokens are given. Throws ArgumentError if its tokens
   * differ.
   */
  guessWith(draft: LoadedDraft, tokenizer: Tokenizer): void {
    this.#draft = draft;
    checkTokens(tokenizer, draft.tokenizer);
    guessWith(this.#parts, draft);
  }

  run(options: Pick<BenchOptions, "onProgress" | "signal"> = {}): AsyncGenerator<BenchFinding> {
    return bench(this.#parts.scheduler, { ...this.#tests, ...options }, this.#quoting);
  }

  async close(): Promise<void> {
    await closeAll(this.#draft ? [this.#parts, this.#draft] : [this.#parts]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Loads a model (what `load` takes), or makes one of a shape, with a context that just fits the tests. Throws what
 * `load` does, and ArgumentError if there are no tests, or for depths beyond the model's context.
 */
export async function openBench(
  source: string | SyntheticModel,
  tests: BenchTests = {},
  options: BenchLoadOptions = {},
): Promise<Bench> {
  const checked = benchTests(tests);
  const { draft: draftName } = options;
  if (draftName !== undefined && checked.quote === "")
    throw new ArgumentError("draft", draftName, "none without quote: other rows guess nothing");
  if (draftName !== undefined && typeof source !== "string")
    throw new ArgumentError("draft", draftName, "none with a shape, which has no tokens");
  const deepest = Math.max(...checked.depth);
  const context = deepest + benchTail(checked);
  throwIfAborted(options.signal, "loading");
  const checkpoint =
    typeof source === "string"
      ? await openCheckpoint(await findModel(source, options))
      : await syntheticCheckpoint(source.shape, { ...source, context });
  try {
    const { trainedContext } = (await openModel(checkpoint)).config;
    if (context > trainedContext)
      throw new ArgumentError(
        "depth",
        deepest,
        `0 to ${trainedContext - benchTail(checked)}, so that the tests fit the model's context`,
      );
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
  const { extra, ...parts } = await loadCheckpoint(
    checkpoint,
    () => openDevice(options),
    { ...options, context, ...batchPlan(checked, context) },
    async (model) => {
      const isQuoting = checked.quote !== "" && typeof source === "string";
      return isQuoting ? { tokenizer: await tokenizerOf(model) } : {};
    },
  );
  const { tokenizer = null } = extra as { tokenizer?: Tokenizer };
  const quoting = checked.quote === "" ? [] : quotePrompt(tokenizer, checked.quote, parts.model.config.vocab);
  const made = new Bench(parts, checked, quoting);
  if (draftName !== undefined && tokenizer) {
    try {
      const open = async () => openCheckpoint(await findModel(draftName, options));
      made.guessWith(
        await loadDraft(await open(), () => openDevice(options), { ...options, context }),
        tokenizer,
      );
    } catch (error) {
      await made.close();
      throw error;
    }
  }
  try {
    checkProfile(parts.scheduler, checked);
  } catch (error) {
    await made.close();
    throw error;
  }
  return made;
}
