// @ts-check
/**
 * A worker's child: computes claims that its parent sends, in a process that may run out of memory, crash or hang without
 * taking the worker with it. argv[2]: URL of the module that has `openRunner`; its arguments come as the first message.
 */
import process from "node:process";

const stop = new AbortController();
/** @type {Promise<void> | null} */
let running = null;

// Ctrl-C goes to parent and child; the parent decides. Without a parent the child ends.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => {
  stop.abort();
  void Promise.allSettled([running]).then(() => process.exit(143));
});
process.on("disconnect", () => process.exit(1));

/** @param {unknown} message */
const reply = (message) => void process.send?.(message);
/** @param {unknown} cause */
const plain = (cause) => {
  const error = cause instanceof Error ? cause : new Error(String(cause));
  return { name: error.name, message: error.message };
};

/** @param {() => Promise<object>} work */
function answer(work) {
  running = work().then(reply, (error) => reply({ error: plain(error) }));
}

process.once("message", (/** @type {any} */ { models, options }) =>
  answer(async () => {
    const { openRunner } = await import(process.argv[2]);
    const runner = await openRunner(models, options, stop.signal);
    process.on("message", (/** @type {any} */ { claim }) =>
      answer(async () => ({ result: await runner.run(claim, stop.signal) })),
    );
    return { ready: { can: runner.can, entries: runner.entries } };
  }),
);
