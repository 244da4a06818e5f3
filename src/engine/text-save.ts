/**
 * What pages hold of a text into a file's bytes and back, while other texts go on. The format is cache/saved-cache.ts's.
 */
import {
  type CacheOwner,
  openSavedCache,
  type ReadPages,
  saveCache,
  type WritePages,
} from "../cache/saved-cache.ts";
import { type Graph, PAGE_SLOTS } from "../device/contract.ts";
import { ArgumentError, throwIfAborted } from "../format/errors.ts";
import type { Source } from "../format/source.ts";
import { Job } from "./job.ts";
import type { Scheduler } from "./scheduler.ts";

/** All of `ids`. ArgumentError when less is held. */
export async function* saveText(
  scheduler: Scheduler,
  owner: CacheOwner,
  ids: readonly number[],
): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const { graph, allocation } = scheduler;
  const { tokens, held, release } = scheduler.keep(ids);
  try {
    if (tokens < ids.length || tokens === 0)
      throw new ArgumentError(
        "the text to save",
        `held for the first ${tokens} of its ${ids.length} tokens`,
        "one that was read and whose pages no other text has needed since",
      );
    const read: ReadPages = (place, pages) =>
      scheduler.alone(async () => {
        const bytes = new Uint8Array(pages.length * pageBytes(place));
        for (const [i, page] of pages.entries())
          bytes.set(await allocation.readPage({ ...place, page }), i * pageBytes(place));
        return bytes;
      });
    yield* saveCache({ graph, owner }, ids, held, read);
  } finally {
    release();
  }
}

/** Afterwards its tokens are known. Resolves with them. */
export async function restoreText(
  scheduler: Scheduler,
  owner: CacheOwner,
  source: Source,
  signal?: AbortSignal,
): Promise<readonly number[]> {
  throwIfAborted(signal, "restoring a text");
  const { graph, allocation, context, vocab } = scheduler;
  const saved = await openSavedCache(source, { graph, owner }, { context, vocab });
  const { ids, firsts } = saved;
  const work = async (job: Job) => {
    const { pages } = job;
    pages.begin(firsts);
    pages.grow(ids.length, () => true);
    const write: WritePages = (place, pages, bytes) =>
      scheduler.alone(async () => {
        // The pages may be someone else's by now.
        if (job.isEnded) return;
        const size = pageBytes(place);
        for (const [i, page] of pages.entries())
          await allocation.writePage({ ...place, page }, bytes.subarray(i * size, (i + 1) * size));
      });
    await saved.restore(pages.from(firsts), write);
    if (!job.isEnded) pages.wrote(ids);
  };
  const job = new Job({ ids, signal, work });
  scheduler.submit(job);
  await job.ended;
  return ids;
}

function pageBytes({ cache }: { cache: Graph["caches"][number] }): number {
  return PAGE_SLOTS * cache.codec.vectorBytes(cache.headDim);
}
