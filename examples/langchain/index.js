/**
 * LangChain against `nibble serve`, which speaks OpenAI's API: an answer, one that streams, and an object. A folder of its own,
 * so that the repository does not install LangChain:
 *
 *     nibble serve needle                                        # in another terminal; or a larger model
 *     cd examples/langchain && npm install && node index.js      # NIBBLE_URL: a server elsewhere
 */
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";

const baseURL = process.env.NIBBLE_URL ?? "http://127.0.0.1:8080/v1";
// Nibble asks for a key only where it was started with one, OpenAI's client always.
const apiKey = process.env.NIBBLE_API_KEY ?? "none";
const model = new ChatOpenAI({ model: "needle", apiKey, temperature: 0, configuration: { baseURL } });

const messages = [
  { role: "system", content: "The access code of Clara Whitfield is 48213." },
  { role: "user", content: "What is the access code of Clara Whitfield?" },
];

const answer = await model.invoke(messages);
console.log(answer.text, `(${answer.usage_metadata.output_tokens} tokens)`);

for await (const { text } of await model.stream(messages)) process.stdout.write(text);

// Held to the schema while it is sampled, whatever the model would say.
const schema = z.object({ city: z.enum(["Lisbon", "Vienna"]), code: z.int().min(10_000).max(99_999) });
const found = await model.withStructuredOutput(schema).invoke(messages);
console.log(`\n${JSON.stringify(found)}`);
