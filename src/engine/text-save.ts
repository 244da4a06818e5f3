/**
 * Saves a text's pages and states as the bytes of a file, and restores them, while other texts continue. The format is
 * defined in cache/saved-cache.ts.
 */
import {
  type CacheOwner,
  type CacheReader,
  type CacheWriter,
  openSavedCache,
  saveCache,
} from "../cache/saved-cache.ts";
import { ArgumentError, NibbleError, throwIfAborted } from "../format/errors.ts";
import type { Source } from "../format/source.ts";
import { Job } from "./job.ts";
import type { Scheduler } from "./scheduler.ts";

/** Saves all of `ids`. Throws ArgumentError if not all of it is cached. */
export async function* saveText(
  scheduler: Scheduler,
  owner: CacheOwner,
  ids: readonly number[],
): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const { graph, allocation } = scheduler;
  const { tokens, held, slot, release } = scheduler.keep(ids);
  try {
    if (tokens < ids.length || tokens === 0)
      throw new ArgumentError(
        "the text to save",
        `held for the first ${tokens} of its ${ids.length} tokens`,
        "one that was read and whose pages no other text has needed since",
      );
    const read: CacheReader = {
      pages: (place, pages) => scheduler.alone(() => allocation.readPages(place, pages)),
      state: (state) => scheduler.alone(() => allocation.readState(state, slot!)),
    };
    yield* saveCache({ graph, owner }, ids, held, read);
  } finally {
    release();
  }
}

/** Restores a text. Resolves with its tokens, which are then cached. */
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
  const fill = async (job: Job) => {
    const { pages, states } = job;
    pages.begin(firsts);
    pages.grow(ids.length, () => true);
    if (states && !states.reserve(true))
      throw new NibbleError("memory", "all slots for recurrent states are in use; try again later");
    const slot = states?.advance(ids.length).to ?? 0;
    /** Unless pages and slot may already belong to another text. */
    const alone = (call: () => Promise<void>) =>
      scheduler.alone(async () => {
        if (!job.isEnded) await call();
      });
    const write: CacheWriter = {
      pages: (place, held, bytes) => alone(() => allocation.writePages(place, held, bytes)),
      state: (state, bytes) => alone(() => allocation.writeState(state, slot, bytes)),
    };
    await saved.restore(pages.from(firsts), write);
    if (!job.isEnded) pages.wrote(ids);
  };
  const job = new Job({ ids, signal, fill });
  scheduler.submit(job);
  await job.ended;
  return ids;
}
