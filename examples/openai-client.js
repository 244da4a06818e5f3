/** The official openai client against `nibble serve`: an answer that streams, and one held to a JSON schema. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";

// As `nibble serve needle` in another terminal would, at any free port.
const cli = fileURLToPath(new URL("../dist/cli/nibble.js", import.meta.url));
const server = spawn(process.execPath, [cli, "serve", "needle", "--port", "0"]);
const [, baseURL] = await new Promise((resolve) =>
  server.stdout.on("data", (line) => resolve(/OpenAI API at (\S+)/.exec(line))),
);

try {
  const client = new OpenAI({ baseURL, apiKey: "none" });
  const system = { role: "system", content: "The access code of Clara Whitfield is 48213." };

  const stream = await client.chat.completions.create({
    model: "needle",
    messages: [system, { role: "user", content: "What is the access code of Clara Whitfield?" }],
    stream: true,
  });
  for await (const { choices } of stream) process.stdout.write(choices[0].delta.content ?? "");

  const schema = { type: "object", properties: { city: { enum: ["Lisbon", "Vienna"] } }, required: ["city"] };
  const answer = await client.chat.completions.create({
    model: "needle",
    messages: [system, { role: "user", content: "Where does Clara Whitfield live?" }],
    response_format: { type: "json_schema", json_schema: { name: "home", schema } },
  });
  console.log(`\n${JSON.stringify(JSON.parse(answer.choices[0].message.content))}`);
} finally {
  server.kill();
}
