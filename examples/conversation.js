/** A conversation: each turn gives the whole history, and what the cache holds already is not processed again. */
import { load } from "nibble-llm";

const messages = [
  {
    role: "system",
    content: "The access code of Clara Whitfield is 48213.\nBoris Thorne's home city is Lisbon.",
  },
];

const model = await load("needle", { context: 512 });
try {
  for (const question of [
    "What is the access code of Clara Whitfield?",
    "What is the home city of Boris Thorne?",
  ]) {
    messages.push({ role: "user", content: question });
    const answer = await model.generate(messages, { maxTokens: 24 }).result();
    messages.push({ role: "assistant", content: answer.text });
    console.log(`${question} ${answer.text}`);
    console.log(`  prompt of ${answer.promptTokens} tokens, ${answer.reusedTokens} of them from the cache`);
  }
} finally {
  await model.close();
}
