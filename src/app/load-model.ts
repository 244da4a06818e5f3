/**
 * Loading a model for the commands that answer: with progress lines of the download and the weights, and warnings
 * on stderr.
 */
import { type LanguageModel, type LoadOptions, load } from "../index.ts";
import { bytes } from "../plot/numbers.ts";
import { printMessage } from "./exit.ts";
import { progress } from "./progress.ts";
import { downloadLine } from "./pull.ts";

export interface ModelOptions
  extends Pick<
    LoadOptions,
    | "context"
    | "device"
    | "adapter"
    | "kernels"
    | "threads"
    | "wideSimd"
    | "parallel"
    | "cacheTokens"
    | "snapshots"
    | "guess"
    | "draft"
    | "embeddings"
  > {
  kv: string;
  /** Bytes. */
  memory?: number;
  offline?: boolean;
}

/** hooks: called with plan and progress, too. */
export async function loadModel(
  name: string,
  { memory, offline, ...options }: ModelOptions,
  signal: AbortSignal,
  hooks: Pick<LoadOptions, "onPlan" | "onProgress"> = {},
): Promise<LanguageModel> {
  const downloading = downloadLine();
  const loading = progress("loading", (done, total) => `${bytes(done)} of ${bytes(total)}`);
  const { kv, context, device, adapter, kernels, threads, parallel, cacheTokens, snapshots } = options;
  const { wideSimd, guess, draft, embeddings } = options;
  const model = await load(name, {
    ...{
      kv,
      context,
      memoryBytes: memory,
      device,
      adapter,
      kernels,
      threads,
      parallel,
      cacheTokens,
      snapshots,
    },
    ...{ wideSimd, guess, draft, embeddings, offline, signal },
    onDownload: downloading.show,
    onPlan: hooks.onPlan,
    onProgress: (found) => {
      downloading.clear();
      loading.show(found.bytes, found.totalBytes);
      hooks.onProgress?.(found);
    },
  }).finally(() => {
    downloading.clear();
    loading.clear();
  });
  for (const warning of model.warnings) printMessage(null, `warning: ${warning}`);
  return model;
}
