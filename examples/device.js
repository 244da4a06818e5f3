/**
 * Which device computes: a GPU where there is one, else the CPU; or the one that is named. On a GPU the first answer
 * includes compiling its kernels.
 *     node examples/device.js [gpu|cpu]
 */
import { load } from "nibble-llm";

const model = await load("needle", { device: process.argv[2], context: 2048 });
console.log(model.device);
// needle answers questions about a text; a real model, such as hf:Qwen/Qwen3-4B-GGUF, answers any.
const messages = [
  { role: "system", content: "The access code of Clara Whitfield is 48213." },
  { role: "user", content: "What is the access code of Clara Whitfield?" },
];
const { text, generatedTokens, generateMs } = await model.generate(messages).result();
console.log(`${text} (${Math.round((generatedTokens * 1000) / generateMs)} tokens/s)`);
await model.close();
