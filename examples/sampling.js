/** Sampling: the same seed gives the same text, another seed another one. */
import { load } from "nibble-llm";

const options = { temperature: 0.9, topK: 50, topP: 0.95, minP: 0.02, repeatPenalty: 1.1, maxTokens: 16 };

const model = await load("needle", { context: 256 });
try {
  for (const seed of [7, 7, 8]) {
    const { text } = await model.generate("What is a harbor?", { ...options, seed }).result();
    console.log(JSON.stringify({ seed, text }));
  }
} finally {
  await model.close();
}
