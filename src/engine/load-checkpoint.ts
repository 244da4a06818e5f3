/**
 * Loads an open checkpoint onto a device, in Node and in a page: plan -> allocate -> weights (`loadCheckpoint`), with what
 * text needs (`loadParts`), as a model (`loadEngineModel`). If one of these steps fails or the caller aborts, nothing stays
 * allocated or open.
 */
import { type Allocation, type Device, MORE_CHOSEN } from "../device/contract.ts";
import type { Checkpoint } from "../format/checkpoint.ts";
import { throwIfAborted } from "../format/errors.ts";
import { finiteTensor } from "../format/finite-tensor.ts";
import { rowBytes, type Tensor } from "../format/tensor.ts";
import type { Tokenizer } from "../format/tokenizer.ts";
import { type Model, openModel, withIds } from "../model/model.ts";
import { defaultSampling, Suppressed } from "./default-sampling.ts";
import { embeddingFacts } from "./embed.ts";
import { choiceNote, chooseKv } from "./kv-choice.ts";
import { EngineModel, type ModelParts } from "./language-model.ts";
import type { LoadedModel } from "./loaded-model.ts";
import { type Plan, type PlanOptions, planMemory } from "./plan.ts";
import { Scheduler } from "./scheduler.ts";

/** Progress of reading the weights. */
export interface LoadProgress {
  /** Bytes of weights read so far, and in total. */
  bytes: number;
  totalBytes: number;
}

export interface LoadCheckpointOptions extends PlanOptions {
  onProgress?: (progress: LoadProgress) => void;
  /** Awaited before a plan (also a draft model's) is allocated. If it rejects, loading ends. */
  onPlan?: (plan: Plan) => void | Promise<void>;
  /** Stops the loading, which then rejects with AbortedError and leaves nothing allocated. */
  signal?: AbortSignal;
}

/** `loadParts`, as a model. */
export async function loadEngineModel(...parts: Parameters<typeof loadParts>): Promise<EngineModel> {
  return new EngineModel(await loadParts(...parts));
}

/**
 * Takes over `checkpoint`: the model closes it, and so does a failure here. `openDevice` is called once the checkpoint
 * is known to be a supported model. `check` may refuse its tokens. Throws FormatError, UnsupportedError, MemoryError,
 * ArgumentError, DeviceError, AbortedError.
 */
export async function loadParts(
  checkpoint: Checkpoint,
  openDevice: () => Device | Promise<Device>,
  options: LoadCheckpointOptions = {},
  check: (tokenizer: Tokenizer) => void = () => {},
): Promise<ModelParts> {
  // Before the weights, which take longer: a broken tokenizer should not cost a long wait.
  const { extra, ...loaded } = await loadCheckpoint(checkpoint, openDevice, options, async (model) => {
    const tokenizer = await tokenizerOf(model);
    check(tokenizer);
    const [template, makers] = [await checkpoint.chatTemplate(), (await checkpoint.sampling?.()) ?? null];
    const sampling = defaultSampling(makers, model.config.name, template !== null);
    const embedding = await embeddingFacts(checkpoint);
    return { tokenizer, template, embedding, sampling, suppressed: Suppressed.of(makers, tokenizer.vocab) };
  });
  return { ...loaded, ...extra };
}

/** A tokenizer with the ids of the model's matrix. Throws FormatError if they do not match. */
export async function tokenizerOf({ checkpoint, config }: Model): Promise<Tokenizer> {
  return (await checkpoint.tokenizer()).fit(config.vocab);
}

/**
 * As `loadParts`, without tokenizer and template. `before` is awaited before anything is planned; if it returns a tokenizer, rows of the model
 * without a token are left out, so that none of them is ever chosen.
 */
export async function loadCheckpoint<Extra extends { readonly tokenizer?: Tokenizer }>(
  checkpoint: Checkpoint,
  openDevice: () => Device | Promise<Device>,
  options: LoadCheckpointOptions,
  before: (model: Model) => Promise<Extra>,
): Promise<LoadedModel & { readonly extra: Extra }> {
  let allocation: Allocation | null = null;
  try {
    const opened = await openModel(checkpoint);
    const device = await openDevice();
    const extra = await before(opened);
    const tokens = extra.tokenizer?.vocab;
    const model = withIds(opened, tokens ?? opened.config.vocab);
    const kv = options.kv ?? (await chooseKv(model, device));
    const kvNote = options.kv === undefined ? choiceNote(kv, device) : null;
    const plan = planMemory(model, device, { ...options, kv });
    throwIfAborted(options.signal, "loading");
    await options.onPlan?.(plan);
    throwIfAborted(options.signal, "loading");
    allocation = await device.allocate(plan.graph);
    await loadWeights(model, plan, allocation, device.loads ?? 1, options);
    const { context } = plan;
    const scheduler = new Scheduler(plan.graph, allocation, device, {
      ...{ context, vocab: model.config.vocab, guess: options.guess ?? MORE_CHOSEN },
    });
    return { model, device, plan, allocation, scheduler, kvNote, extra };
  } catch (error) {
    try {
      await allocation?.close();
    } finally {
      await checkpoint.close();
    }
    throw error;
  }
}

async function loadWeights(
  model: Model,
  plan: Plan,
  allocation: Allocation,
  loads: number,
  options: LoadCheckpointOptions,
): Promise<void> {
  // In the file's order, which is fastest for a disk or a connection.
  const places = new Map([...model.checkpoint.tensors.keys()].map((name, i) => [name, i]));
  const place = ({ tensor }: { tensor: Tensor }) => places.get(tensor.name) ?? places.size;
  const sources = plan.graph.weights
    .map((weight) => ({ weight, tensor: model.tensor(weight) }))
    .sort((a, b) => place(a) - place(b));
  const totalBytes = sources.reduce(
    (sum, { weight, tensor }) =>
      // Tables stay in the file.
      weight.role === "table" ? sum : sum + tensor.rows * rowBytes(tensor.type, tensor.cols),
    0,
  );
  let bytes = 0;
  const failures: unknown[] = [];
  const onBytes = (more: number) => {
    // An error of one load ends the others, too.
    if (failures.length > 0) throw failures[0];
    throwIfAborted(options.signal, "loading");
    bytes += more;
    options.onProgress?.({ bytes, totalBytes });
  };
  const left = sources.values();
  // Each takes the next weight until there is none.
  const loadNext = async () => {
    for (const { weight, tensor } of left) {
      if (failures.length > 0) return;
      try {
        await allocation.load(weight, finiteTensor(tensor), onBytes);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: loads }, loadNext));
  if (failures.length > 0) throw failures[0];
}
