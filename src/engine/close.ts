/** The end of models that were loaded together. */
import type { Prepared } from "./assemble.ts";

/** Frees memory, threads and files of all of them; the first error is told when that is done. */
export async function closeAll(all: readonly Pick<Prepared, "allocation" | "model">[]): Promise<void> {
  const closed = await Promise.allSettled(
    all.map(async ({ allocation, model }) => {
      try {
        await allocation.close();
      } finally {
        await model.checkpoint.close();
      }
    }),
  );
  for (const one of closed) if (one.status === "rejected") throw one.reason;
}
