/** What the KV cache costs in each format, and the same question over both. */
import { load } from "nibble-llm";

const messages = [
  { role: "system", content: "The room number of Helen Archer is 614." },
  { role: "user", content: "What is the room number of Helen Archer?" },
];

for (const kv of ["f16", "int4"]) {
  const model = await load("needle", { kv, context: 1024 });
  try {
    const text = await model.generate(messages, { maxTokens: 24 }).text();
    console.log(`${kv.padEnd(5)} ${model.plan.cacheBytes} bytes for ${model.plan.context} tokens: ${text}`);
  } finally {
    await model.close();
  }
}
