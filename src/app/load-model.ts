/** Loading a model with its two lines of progress, the download's and the weights', for the commands that answer. */
import { type LanguageModel, type LoadOptions, load } from "../index.ts";
import { bytes } from "./figures.ts";
import { progress } from "./progress.ts";
import { downloadLine } from "./pull.ts";

export interface ModelOptions
  extends Pick<LoadOptions, "context" | "device" | "adapter" | "threads" | "parallel" | "cacheTokens"> {
  kv: string;
  offline?: boolean;
}

export async function loadModel(
  name: string,
  { kv, context, device, adapter, threads, parallel, cacheTokens, offline }: ModelOptions,
  signal: AbortSignal,
): Promise<LanguageModel> {
  const downloading = downloadLine();
  const loading = progress("loading", (done, total) => `${bytes(done)} of ${bytes(total)}`);
  return load(name, {
    ...{ kv, context, device, adapter, threads, parallel, cacheTokens, offline, signal },
    onDownload: downloading.show,
    onProgress: ({ bytes: done, totalBytes }) => {
      downloading.clear();
      loading.show(done, totalBytes);
    },
  }).finally(() => {
    downloading.clear();
    loading.clear();
  });
}
