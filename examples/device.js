/**
 * Which device computes: a GPU where there is one, else the CPU; or the one that is named. On a GPU the first answer
 * includes compiling its kernels.
 *     node examples/device.js [gpu|cpu]
 */
import { load } from "nibble";

const model = await load("needle", { device: process.argv[2], context: 2048 });
console.log(model.device);
const { text, generatedTokens, generateMs } = await model.generate("Hello").result();
console.log(`${text} (${Math.round((generatedTokens * 1000) / generateMs)} tokens/s)`);
await model.close();
