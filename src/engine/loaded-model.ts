/** A model on a device, ready to run, and closing several that were loaded together. */
import type { Allocation, Device } from "../device/contract.ts";
import type { Model } from "../model/model.ts";
import type { Plan } from "./plan.ts";
import type { Scheduler } from "./scheduler.ts";

/** A model on a device, its weights loaded. Its owner closes the allocation and the checkpoint. */
export interface LoadedModel {
  readonly model: Model;
  readonly device: Device;
  readonly plan: Plan;
  readonly allocation: Allocation;
  /** Runs all texts over it. */
  readonly scheduler: Scheduler;
  /** Why the cache's format is not the device's default, where nobody asked for another. */
  readonly kvNote?: string | null;
}

/** Frees memory, threads and files of all of them, then throws the first error. */
export async function closeAll(all: readonly Pick<LoadedModel, "allocation" | "model">[]): Promise<void> {
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
