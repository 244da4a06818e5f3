/** Any model on disk, with its own chat template: node examples/open.js PATH [QUESTION] (GGUF file or safetensors folder) */
import { load, NibbleError } from "nibble";

const [path = "needle", question = "What is a harbor?"] = process.argv.slice(2);

try {
  const model = await load(path, { context: 1024 });
  try {
    const { family, layers, hidden, trainedContext } = model.config;
    console.log(
      `${family}, ${layers.length} layers of ${hidden}, trained for ${trainedContext} tokens, on ${model.device}`,
    );
    console.log(
      model.chatTemplate ? "with a chat template" : "no chat template: the prompt is taken as it is",
    );
    console.log(await model.generate(question, { maxTokens: 24 }).text());
  } finally {
    await model.close();
  }
} catch (error) {
  // Every error of the library has a code and a message of one line.
  if (!(error instanceof NibbleError)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1;
}
