/**
 * The page's worker: models and plans away from the thread that draws. Owns running what is asked and telling what went
 * wrong. The one idea: the planner and the engine are loaded when they are first asked for, so that a page which only
 * talks to a server never fetches them.
 */
import type { FromWorker, ToWorker, Work, WorkName } from "./protocol.ts";

/** One piece of work; `tell` passes news on. */
export type Doing<Name extends WorkName> = (
  ask: Work[Name]["ask"],
  tell: (news: Work[Name]["news"]) => void,
  signal: AbortSignal,
) => Promise<Work[Name]["gives"]>;

const model = () => import("./model.ts");

const WORK: { [Name in WorkName]: Doing<Name> } = {
  open: async (...all) => (await model()).open(...all),
  answer: async (...all) => (await model()).answer(...all),
  count: async (...all) => (await model()).count(...all),
  bench: async (...all) => (await import("./bench.ts")).bench(...all),
  plan: async (...all) => (await import("./plan.ts")).plan(...all),
};

// The worker's global scope, which lib.dom.d.ts takes for a window.
const page = globalThis as unknown as {
  postMessage(message: FromWorker): void;
  addEventListener(type: "message", listener: (event: MessageEvent<ToWorker>) => void): void;
};
const stops = new Map<number, AbortController>();

page.addEventListener("message", async ({ data }) => {
  const { id } = data;
  if ("stop" in data) {
    stops.get(id)?.abort();
    return;
  }
  const stop = new AbortController();
  stops.set(id, stop);
  try {
    const work = WORK[data.name] as Doing<WorkName>;
    const gives = await work(
      data.ask as never,
      (news: unknown) => page.postMessage({ id, news }),
      stop.signal,
    );
    page.postMessage({ id, gives });
  } catch (error) {
    const { code = null, message } = error as { code?: never; message?: string };
    page.postMessage({ id, code, message: message ?? String(error) });
  } finally {
    stops.delete(id);
  }
});
