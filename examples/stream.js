/** Text as it comes, with the tokens behind it. */
import { load } from "nibble-llm";

const messages = [
  { role: "system", content: "Boris Thorne's home city is Vienna." },
  { role: "user", content: "What is the home city of Boris Thorne?" },
];

const model = await load("needle", { context: 512 });
try {
  const generation = model.generate(messages, { maxTokens: 24 });
  // A piece is text and the ids of its tokens; a character that spans several tokens comes whole.
  for await (const { text } of generation) process.stdout.write(text);
  const { stopReason, generatedTokens } = await generation.result();
  console.log(`\n${generatedTokens} tokens, stopped by: ${stopReason}`);
} finally {
  await model.close();
}
