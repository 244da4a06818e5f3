/** One signal out of several. Not AbortSignal.any: in Node 20 signals that depend on a long-lived one are never freed. */
export interface JoinedSignal {
  readonly signal: AbortSignal;
  abort(): void;
  /** The others are no longer heard. */
  release(): void;
}

/** Fires when one of them does, or by `abort`. aborted: called at once. */
export function joinedSignal(signals: readonly AbortSignal[], aborted: () => void = () => {}): JoinedSignal {
  const controller = new AbortController();
  const abort = () => {
    controller.abort();
    aborted();
  };
  for (const signal of signals) {
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort);
  }
  return {
    signal: controller.signal,
    abort,
    release() {
      for (const signal of signals) signal.removeEventListener("abort", abort);
    },
  };
}
