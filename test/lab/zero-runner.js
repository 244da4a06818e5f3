/**
 * A runner of experiments of zero length, for tests: what one does is its draw, by the table of options. Results differ each
 * time, so that an experiment that was recorded twice shows.
 */
import { createHash, randomBytes } from "node:crypto";

const sha256 = (text) => createHash("sha256").update(text).digest("hex");

/** A result of an experiment; `klMean` 0.1 unless said. */
export function zeroResult(experiment, klMean = 0.1) {
  const losses = randomBytes(4).toString("base64");
  const digest = sha256(Buffer.from(losses, "base64"));
  return {
    kind: "result",
    ...{ experiment, klMean, klError: 0, kl999: klMean, sameTop: 1, ms: 0, losses, tops: "", digest },
    ...{ worker: `zero:${process.pid}`, env: {}, at: new Date().toISOString() },
    id: sha256(`{"digest":"${digest}","experiment":"${experiment}"}`),
  };
}

/** models: none. options: by draw, "crash", "hang", "deaf" (and hangs), "memory" or "error". */
export async function openRunner(models, options) {
  if (models.includes("broken")) throw new Error("broken is no model");
  return {
    can: [],
    entries: [],
    async run(claim, signal) {
      switch (options[claim.experiment.draw]) {
        case "crash":
          console.error("illegal instruction, in a way");
          process.exit(132);
          break;
        case "memory":
          process.kill(process.pid, "SIGKILL");
          break;
        case "deaf":
          for (;;);
        case "hang":
          await new Promise((_, reject) =>
            signal.addEventListener("abort", () => reject(new Error("stopped"))),
          );
          break;
        case "error":
          throw new RangeError("draw is too large");
      }
      return zeroResult(claim.id);
    },
    async close() {},
  };
}
