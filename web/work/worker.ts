/**
 * The page's worker: models and plans away from the thread that draws. It runs what is asked and reports errors. A page that only talks to a server never starts it, so never fetches it.
 */
import { bench } from "./bench.ts";
import { answer, count, open } from "./model.ts";
import { plan } from "./plan.ts";
import type { Doing, FromWorker, ToWorker, WorkName } from "./protocol.ts";

const WORK: { [Name in WorkName]: Doing<Name> } = { open, answer, count, bench, plan };

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
      (progress: unknown) => page.postMessage({ id, progress }),
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
