/** Several generations at once over one model: one step serves all of them, and what they have in common is read once. */
import { load } from "nibble-llm";

const facts = "The access code of Clara Whitfield is 48213.\nBoris Thorne's home city is Lisbon.\n".repeat(5);
const questions = ["What is the access code of Clara Whitfield?", "What is the home city of Boris Thorne?"];

const model = await load("needle", { context: 512, parallel: 2 });
try {
  const answer = (question) =>
    model
      .generate([
        { role: "system", content: facts },
        { role: "user", content: question },
      ])
      .result();
  const results = await Promise.all(questions.map(answer));
  for (const [i, { text, promptTokens, reusedTokens }] of results.entries())
    console.log(`${questions[i]} ${text} (${promptTokens - reusedTokens} of ${promptTokens} tokens read)`);
} finally {
  await model.close();
}
