/**
 * Loads a draft model before the large one, so that the large one's plan uses the memory that is left, and checks that
 * their tokens match.
 */
import type { Device } from "../device/contract.ts";
import type { Checkpoint } from "../format/checkpoint.ts";
import { ArgumentError } from "../format/errors.ts";
import type { Tokenizer } from "../format/tokenizer.ts";
import { openModel } from "../model/model.ts";
import { type LoadCheckpointOptions, loadCheckpoint, tokenizerOf } from "./load-checkpoint.ts";
import type { LoadedModel } from "./loaded-model.ts";

/** The caller closes it. */
export interface LoadedDraft extends LoadedModel {
  readonly tokenizer: Tokenizer;
}

/** Its context is the requested one, up to its trained length. Takes over `checkpoint`. Throws what `loadParts` does. */
export async function loadDraft(
  checkpoint: Checkpoint,
  openDevice: () => Device | Promise<Device>,
  options: LoadCheckpointOptions,
): Promise<LoadedDraft> {
  let trained: number;
  try {
    trained = (await openModel(checkpoint)).config.trainedContext;
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
  const context = Math.min(options.context ?? trained, trained);
  const { cacheTokens, parallel, kv, memoryBytes, signal, onPlan } = options;
  const shared = { cacheTokens: cacheTokens && Math.max(cacheTokens, context), parallel, kv, memoryBytes };
  const { extra, ...parts } = await loadCheckpoint(
    checkpoint,
    openDevice,
    { ...shared, ...(options.context === undefined ? {} : { context }), guess: 0, signal, onPlan },
    async (model) => ({ tokenizer: await tokenizerOf(model) }),
  );
  return { ...parts, ...extra };
}

/** The memory of a device that the draft model leaves. */
export function besideDraft(device: Device, { plan }: LoadedDraft): Device {
  const { memory } = device;
  return memory ? { ...device, memory: { ...memory, bytes: memory.bytes - plan.totalBytes } } : device;
}

/** Throws ArgumentError unless each id is the same token in both, since guesses are ids. */
export function checkTokens(model: Tokenizer, draft: Tokenizer): void {
  const allowed = "a model with the same tokens as the one it guesses for";
  if (draft.vocab !== model.vocab)
    throw new ArgumentError("draft", `${draft.vocab} tokens where the model has ${model.vocab}`, allowed);
  const decoder = new TextDecoder();
  for (let id = 0; id < model.vocab; id++) {
    const [found, wanted] = [draft, model].map((one) => one.bytes(id, { special: true }));
    if (found.length === wanted.length && found.every((byte, i) => byte === wanted[i])) continue;
    const [other, own] = [found, wanted].map((bytes) => JSON.stringify(decoder.decode(bytes)));
    throw new ArgumentError("draft", `token ${id} is ${other} where the model has ${own}`, allowed);
  }
}
