/** Whether a model still finds facts in 600 tokens over a 4-bit cache, and how far its answers are from those over f16. */
import { verifyModel } from "nibble-llm";

const tests = { kv: ["int4"], depths: [600], positions: 64, needles: 1 };
for await (const row of verifyModel("needle", { ...tests, device: "cpu" })) {
  if (row.kind === "needle")
    console.log(`${row.kv}, fact at ${100 * row.depth} %: ${row.right} of ${row.asked}`);
  if (row.kind === "answer" && row.divergence)
    console.log(`answers over ${row.kv}: mean KL ${row.divergence.meanKl.toFixed(4)} next to f16`);
  if (row.kind === "verdict") console.log(`${row.kv}: ${row.grade}`);
}
