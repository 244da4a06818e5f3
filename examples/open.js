/**
 * Any model, with its own chat template: node examples/open.js MODEL [QUESTION]. MODEL: a GGUF file, a safetensors folder, or a
 * name such as hf:Qwen/Qwen3-4B-GGUF, which is downloaded when it is first used.
 */
import { load, NibbleError } from "nibble-llm";

// What needle can answer, if nothing else is asked.
const fact = [
  { role: "system", content: "The access code of Clara Whitfield is 48213." },
  { role: "user", content: "What is the access code of Clara Whitfield?" },
];
const [path = "needle", question = fact] = process.argv.slice(2);

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
