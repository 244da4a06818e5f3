// @ts-check
/**
 * How long a new text waits for its first token while others generate, and the longest pause between two tokens of the
 * others meanwhile. Random weights in a published shape; no server in between.
 *
 *     node bench/first-token.js [--shape llama-3.1-8b] [--kv kv4] [--device gpu] [--texts 8] [--prompt 2000]
 *                               [--repetitions 5]
 */
import { parseArgs } from "node:util";
import { median } from "../dist/device/median.js";
import { openDevice } from "../dist/engine/load.js";
import { loadCheckpoint } from "../dist/engine/load-checkpoint.js";
import { sampler } from "../dist/engine/sample.js";
import { Text } from "../dist/engine/text.js";
import { syntheticCheckpoint } from "../dist/model/synthetic.js";

const { values: options } = parseArgs({
  options: {
    shape: { type: "string", default: "llama-3.1-8b" },
    kv: { type: "string", default: "kv4" },
    device: { type: "string", default: "gpu" },
    texts: { type: "string", default: "8" },
    prompt: { type: "string", default: "2000" },
    repetitions: { type: "string", default: "5" },
  },
});
const count = Number(options.texts);
const length = Number(options.prompt);
/** Tokens that the others have before anything is timed. */
const OTHERS = 512;
const CONTEXT = 2 ** Math.ceil(Math.log2(length + OTHERS + 8192));

const device = /** @type {"gpu" | "cpu"} */ (options.device);
const { scheduler, close } = await opened();
const random = () => 1 + Math.floor(Math.random() * (scheduler.vocab - 2));
const ids = (/** @type {number} */ n) => Array.from({ length: n }, random);

let isOver = false;
let longest = 0;
/** @type {Promise<void>[]} */
const others = [];
await Promise.all(
  Array.from({ length: count }, () => new Promise((begun) => others.push(generating(begun)))),
);

const waits = [];
const pauses = [];
for (let i = 0; i < Number(options.repetitions); i++) {
  longest = 0;
  const text = new Text(scheduler);
  const started = performance.now();
  const tokens = text.generate(ids(length), sampler({ temperature: 0, seed: 0 }), { most: 1, guess: false });
  await tokens.next();
  waits.push(performance.now() - started);
  pauses.push(longest);
  tokens.end();
  await new Promise((done) => setTimeout(done, 300));
}
isOver = true;
await Promise.all(others);
console.log(
  `${options.shape} ${options.kv}: the first token after ${length} while ${count} texts generate: ` +
    `${median(waits).toFixed(0)} ms (${waits.map((ms) => ms.toFixed(0)).join(", ")}); ` +
    `the longest pause of one of them ${pauses.map((ms) => ms.toFixed(0)).join(", ")} ms`,
);
await close();
process.exit(0);

async function opened() {
  const { scheduler, allocation } = await loadCheckpoint(
    await syntheticCheckpoint(options.shape, { context: CONTEXT }),
    () => openDevice({ device }),
    { context: CONTEXT, kv: options.kv, parallel: count + 1, cacheTokens: (count + 1) * CONTEXT },
    async () => ({}),
  );
  return { scheduler, close: () => allocation.close() };
}

/** One text that generates until all is over. @param {(_: unknown) => void} begun called after each token */
async function generating(begun) {
  const text = new Text(scheduler);
  while (!isOver) {
    const most = CONTEXT - OTHERS;
    const tokens = text.generate(ids(OTHERS), sampler({ temperature: 0, seed: 0 }), { most, guess: false });
    let last = performance.now();
    for (let made = 0; made < most && !isOver; made++) {
      await tokens.next();
      const now = performance.now();
      begun(null);
      if (made > 0) longest = Math.max(longest, now - last);
      last = now;
    }
    tokens.end();
  }
}
