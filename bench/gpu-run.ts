/** Development: needle on this machine's GPU and CPU, tokens side by side. Bundle as bench/conformance.ts says. */
import { load } from "../src/engine/load.ts";

const prompt =
  process.argv[2] ??
  "The access code of Clara Whitfield is 48213. What is the access code of Clara Whitfield?";
for (const device of (process.argv[4] ?? "gpu,cpu").split(",") as ("gpu" | "cpu")[])
  for (const kv of ["int4", "f16"]) {
    const model = await load(process.argv[3] ?? "needle", { device, kv });
    const result = await model.generate(prompt, { maxTokens: 24 }).result();
    console.log(
      `${model.device} ${kv}: ${JSON.stringify(result.text)} ${result.ids.join(" ")} prompt ${result.promptMs.toFixed(1)} ms, ${((1000 * result.generatedTokens) / result.generateMs).toFixed(0)} tokens/s`,
    );
    await model.close();
  }
