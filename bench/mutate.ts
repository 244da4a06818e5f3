/**
 * Models with changed values, by the thousand (test/engine/mutations.ts): how many load, how many fail with which
 * error, and each one that ends otherwise, takes long or makes the process grow. A case is a number, so any can be run
 * again.
 *
 *     npx rolldown bench/mutate.ts --format esm --platform node -o dist/mutate.js
 *     node dist/mutate.js [--seed 0] [--count 10000] [--kind gguf]
 */
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { KINDS, type Kind, outcome, prepare } from "../test/engine/mutations.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "0" },
    count: { type: "string", default: "10000" },
    kind: { type: "string" },
  },
});
const kinds = values.kind ? [values.kind as Kind] : KINDS;
const first = Number(values.seed);
const count = Number(values.count);

/** The time that a case may take on a loaded machine, and how much it may make the process grow. */
const SLOW_MS = 3000;
const GROWTH_BYTES = 200e6;
/** If no case ends for this long, the process is ended and the case is named. */
const HANG_MS = 60_000;

// A case that never ends blocks this thread, so another one reports it.
const watched = new Int32Array(new SharedArrayBuffer(8));
const watch = `
  const { workerData } = require("node:worker_threads");
  const { watched, kinds, ms } = workerData;
  let before = -1;
  setInterval(() => {
    if (watched[0] === before) { console.error("hangs: " + kinds[watched[1]] + " " + before); process.kill(process.pid, "SIGKILL"); }
    before = watched[0];
  }, ms);`;
const watcher = new Worker(watch, { eval: true, workerData: { watched, kinds: KINDS, ms: HANG_MS } });
watcher.unref();

await prepare();
const counts: Record<string, number> = {};
let largest = process.memoryUsage().rss;
for (let seed = first; seed < first + count; seed++) {
  const kind = kinds[seed % kinds.length];
  watched[0] = seed;
  watched[1] = KINDS.indexOf(kind);
  const { result, ms } = await outcome(kind, seed);
  const name = `${kind}: ${result.split(":")[0]}`;
  counts[name] = (counts[name] ?? 0) + 1;
  const { rss } = process.memoryUsage();
  if (result.startsWith("odd")) console.log(`${kind} ${seed}: ${result}`);
  if (ms > SLOW_MS) console.log(`${kind} ${seed}: ${Math.round(ms)} ms`);
  if (rss > largest + GROWTH_BYTES) console.log(`${kind} ${seed}: ${Math.round(rss / 1e6)} MB`);
  largest = Math.max(largest, rss);
  if ((seed + 1) % 10_000 === 0) console.error(`${seed + 1}, ${Math.round(rss / 1e6)} MB`);
}
console.log(JSON.stringify(Object.fromEntries(Object.entries(counts).sort()), null, 1));
