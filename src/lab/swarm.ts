/** Several workers of one process, each with a child that computes, over one book. */
import { availableParallelism } from "node:os";
import type { Runner } from "./book.ts";
import { type ChildOptions, ChildRunner } from "./child-runner.ts";
import { type WorkEvent, type WorkOptions, work } from "./work.ts";
import { workerName } from "./worker-name.ts";

/** What the children of `count` workers are given: the cores are shared among them. */
export function childOf(
  models: readonly string[],
  options: { readonly threads?: number },
  count: number,
): ChildOptions {
  const threads = options.threads ?? Math.max(1, Math.floor(availableParallelism() / count));
  return { models, options: { ...options, threads: count === 1 ? options.threads : threads } };
}

export interface SwarmOptions extends Omit<WorkOptions, "runner" | "worker" | "can"> {
  readonly count: number;
  readonly child: ChildOptions;
  /** What the workers offer in addition to their models. */
  readonly can?: readonly string[];
  /** Opens a worker's runner. Default: a ChildRunner. */
  readonly open?: (signal: AbortSignal) => Promise<Runner & { readonly can: readonly string[] }>;
}

/**
 * Resolves with how many experiments were recorded, when `signal` says stop, or when nothing can be claimed, `idle` has
 * nothing more and no worker is busy, whose result might bring more. `idle` is called for all workers together.
 */
export async function swarm(options: SwarmOptions): Promise<number> {
  const { count, child, can = [], signal, onEvent, idle, book } = options;
  const { open = (stop) => ChildRunner.open(child, stop) } = options;
  let busy = 0;
  let records = 0;
  let asking: Promise<boolean> | null = null;
  const waiting = new Set<() => void>();
  const wake = () => {
    for (const go of waiting) go();
    waiting.clear();
  };
  signal.addEventListener("abort", wake, { once: true });

  const askOnce = () => {
    asking ??= Promise.resolve(idle?.() ?? false).finally(() => {
      asking = null;
    });
    return asking;
  };
  const anyMore = async () => {
    const before = records;
    if (await askOnce()) return true;
    // It may not have seen what came during the call.
    if (records > before) return true;
    if (busy === 0 || signal.aborted) return false;
    await new Promise<void>((resolve) => waiting.add(resolve));
    return true;
  };
  const heard = async (event: WorkEvent) => {
    if (event.kind === "claimed") busy++;
    await onEvent?.(event);
    if (event.kind === "recorded") {
      busy--;
      records++;
      wake();
    }
  };

  const runners: (Runner & { readonly can: readonly string[] })[] = [];
  // One that fails stops the others: they would go on while the caller already has the error.
  const failed = new AbortController();
  const stop = AbortSignal.any([signal, failed.signal]);
  failed.signal.addEventListener("abort", wake, { once: true });
  try {
    for (let i = 0; i < count; i++) runners.push(await open(stop));
    const loops = runners.map((runner, i) =>
      work({
        ...{ book, runner, worker: `${workerName()}:${i + 1}`, can: [...can, ...runner.can] },
        ...{ signal: stop, onEvent: heard, idle: anyMore },
      }).catch((error) => {
        failed.abort();
        throw error;
      }),
    );
    const ended = await Promise.allSettled(loops);
    for (const one of ended) if (one.status === "rejected") throw one.reason;
    return ended.reduce((sum, one) => sum + (one.status === "fulfilled" ? one.value : 0), 0);
  } finally {
    signal.removeEventListener("abort", wake);
    await Promise.all(runners.map((runner) => runner.close()));
  }
}
