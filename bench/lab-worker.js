/**
 * A worker of the trials (lab-trial.js): claims experiments of zero length from the given lab. At one draw it hangs the
 * first time, so that it can be killed; at another it always fails. argv: folder or URL, options as JSON.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { openBook, work } from "../dist/lab.js";
import { zeroResult } from "../test/lab/zero-runner.js";

const [, , where, json] = process.argv;
const { poison, hanging, ...options } = JSON.parse(json);
const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());
process.on("disconnect", () => process.exit(1));

const book = await openBook(where, options);
process.send({ ready: true });
await work({
  ...{ book, worker: `trial:${process.pid}`, can: ["trial"], signal: stop.signal },
  runner: {
    async run({ id, experiment, attempt }) {
      if (experiment.draw === poison) throw new Error("poison");
      if (experiment.draw === hanging && attempt === 1) {
        process.send({ hangs: true });
        await sleep(2 ** 31 - 1);
      }
      return zeroResult(id);
    },
    async close() {},
  },
  async idle() {
    await sleep(50);
    return true;
  },
});
await book.close();
process.exit(0);
