/** What is in a model file, without loading its weights: node examples/inspect.js [GGUF file or safetensors folder] */
import { inspect } from "nibble-llm";

const { config, parameters, fileBytes, tensors, kv, problems } = await inspect(process.argv[2] ?? "needle");

console.log(`${config?.family ?? "unknown family"}: ${parameters} parameters in ${fileBytes} bytes`);
console.log(`largest tensor: ${tensors[0]?.name} (${tensors[0]?.type}, ${tensors[0]?.bytes} bytes)`);
for (const { format, fullBytesPerToken, slidingBytesPerToken } of kv)
  console.log(`${format}: ${fullBytesPerToken + slidingBytesPerToken} bytes of cache for each token`);
for (const problem of problems) console.log(`not read: ${problem}`);
