/**
 * Computes claims in this process (Node only): models by fingerprint, opened once, each with its keys' means. Options are JSON, so
 * that a child process can be given the same.
 */
import type { LoadOptions } from "../engine/load.ts";
import { ArgumentError } from "../format/errors.ts";
import type { Claim, Runner } from "./book.ts";
import { LabModel } from "./lab-model.ts";
import { packLosses } from "./losses.ts";
import { Methods } from "./methods/methods.ts";
import { loadMethod } from "./methods/outside.ts";
import { shippedBook } from "./shipped-book.ts";
import { identified } from "./spec.ts";
import { HARNESS_VERSION, modelNeed } from "./study.ts";
import type { ModelEntry, ResultEntry } from "./types.ts";
import { workerName } from "./worker-name.ts";

export interface RunnerOptions extends Pick<LoadOptions, "threads" | "offline" | "memoryBytes"> {
  device?: "cpu" | "reference" | "gpu";
  /** The longest text, in tokens. Default 640. */
  context?: number;
  /** Paths of modules whose default export is a method. */
  methods?: readonly string[];
}

const CALIBRATION_TOKENS = 256;

/** models: what `load` takes. What `LabModel.open` and `loadMethod` throw. */
export async function openRunner(
  models: readonly string[],
  options: RunnerOptions = {},
  signal?: AbortSignal,
): Promise<ModelRunner> {
  const methods = new Methods(await Promise.all((options.methods ?? []).map(loadMethod)));
  const runner = new ModelRunner(methods);
  try {
    const book = await shippedBook();
    for (const name of new Set(models)) {
      const model = await LabModel.open(name, { ...options, signal });
      // The same file by another name.
      if (runner.models.has(model.id)) {
        await model.close();
        continue;
      }
      runner.models.set(model.id, model);
      // The end of the book, at which neither searched nor held-out texts begin.
      const end = book.body.slice(Math.floor(book.body.length * 0.9));
      runner.entries.push(await model.calibrate(end, CALIBRATION_TOKENS, signal));
    }
    return runner;
  } catch (error) {
    await runner.close();
    throw error;
  }
}

export class ModelRunner implements Runner {
  readonly models = new Map<string, LabModel>();
  /** Entries of the models. */
  readonly entries: ModelEntry[] = [];

  constructor(readonly methods: Methods) {}

  /** What it offers a book's `claim`. */
  get can(): string[] {
    return [...this.models.values()].map(({ id, fused }) => modelNeed(id, fused ? "gpu" : undefined));
  }

  /** undefined: a CPU. */
  get device(): "gpu" | undefined {
    return [...this.models.values()].some(({ fused }) => fused) ? "gpu" : undefined;
  }

  async run(claim: Claim, signal: AbortSignal): Promise<ResultEntry> {
    const { experiment, spec, text } = claim;
    const { model: id, rung, draw, harness } = experiment;
    const model = this.models.get(id);
    if (!model || !this.can.includes(modelNeed(id, experiment.device)))
      throw new ArgumentError(
        "model of an experiment",
        modelNeed(id, experiment.device),
        this.can.join(", "),
      );
    if (harness !== HARNESS_VERSION)
      throw new ArgumentError("harness of an experiment", harness, `${HARNESS_VERSION}, this version's`);
    const began = performance.now();
    const losses = await model.measure(spec, text, rung, draw, this.methods, signal);
    return identified({
      ...({ kind: "result", experiment: claim.id, ...packLosses(losses) } as const),
      ms: Math.round(performance.now() - began),
      worker: workerName(),
      env: { device: model.device, node: process.version },
      at: new Date().toISOString(),
    });
  }

  async close(): Promise<void> {
    for (const model of this.models.values()) await model.close();
  }
}
