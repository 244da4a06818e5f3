/**
 * A session's timeline into a file's bytes and back. Owns that nobody else has the session meanwhile, while others
 * generate; the format is cache/saved-cache.ts's.
 */
import { type CacheAccess, type CacheOwner, openSavedCache, saveCache } from "../cache/saved-cache.ts";
import { throwIfAborted } from "../format/errors.ts";
import type { Source } from "../format/source.ts";
import type { Session } from "./session.ts";
import type { SessionPool } from "./session-pool.ts";

/** What a session holds of `ids` from the first on. ArgumentError when that is nothing, or while it generates. */
export async function* saveSession(
  pool: SessionPool,
  owner: CacheOwner,
  ids: readonly number[],
): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const session = pool.takeHolder(ids);
  try {
    const written = await session.alone(async () => session.written);
    yield* saveCache(access(session, owner), ids.slice(0, session.reusable(ids)), written);
  } finally {
    pool.giveBack(session);
  }
}

/** Into the session that a generation with these tokens would get. Resolves with the tokens. */
export async function restoreSession(
  pool: SessionPool,
  { graph, context, vocab }: Pick<Session, "graph" | "context" | "vocab">,
  owner: CacheOwner,
  source: Source,
  signal?: AbortSignal,
): Promise<readonly number[]> {
  const saved = await openSavedCache(source, { graph, owner }, { context, vocab });
  const session = await pool.take(saved.ids, signal);
  try {
    const into = access(session, owner);
    const writeCache: CacheAccess["writeCache"] = async (range, bytes) => {
      throwIfAborted(signal, "restoring a session");
      await into.writeCache(range, bytes);
    };
    await session.adopt(saved.ids, () => saved.restore({ ...into, writeCache }));
  } finally {
    pool.giveBack(session);
  }
  return saved.ids;
}

/** Each piece waits for its turn, so that others go on generating. */
function access(session: Session, owner: CacheOwner): CacheAccess {
  const { graph, timeline, allocation } = session;
  return {
    ...{ graph, timeline, owner },
    readCache: (range) => session.alone(() => allocation.readCache(range)),
    writeCache: (range, bytes) => session.alone(() => allocation.writeCache(range, bytes)),
  };
}
