/** An answer as an object: JSON that a schema allows, whatever the model would say. Also takes schemas of zod and arktype. */
import { load } from "nibble-llm";

const model = await load("needle", { context: 256 });
const schema = {
  type: "object",
  properties: { city: { enum: ["Lisbon", "Vienna"] } },
  required: ["city"],
};
try {
  const question = "Clara Whitfield lives in Lisbon. Where does she live?";
  const { object, generatedTokens } = await model.generate(question, { schema }).result();
  console.log(JSON.stringify(object), `(${generatedTokens} tokens)`);
} finally {
  await model.close();
}
