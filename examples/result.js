/** No stream, one result: text, token ids, counts, timings and the stop reason, here as JSON. */
import { load } from "nibble-llm";

const model = await load("needle", { context: 256 });
try {
  const result = await model
    .generate("Hugo Marsh lives in", { raw: true, maxTokens: 12, stop: ["."] })
    .result();
  const { weightBytes, cacheBytes, totalBytes } = model.plan;
  console.log(JSON.stringify({ ...result, plan: { weightBytes, cacheBytes, totalBytes } }, null, 2));
} finally {
  await model.close();
}
