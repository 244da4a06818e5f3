/** What was read of a text goes into a file, and another process, or another device, goes on without reading it again. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileSource, load } from "nibble-llm";

const folder = await mkdtemp(join(tmpdir(), "nibble-"));
const path = join(folder, "facts.kv");
const messages = [
  { role: "system", content: "The access code of Clara Whitfield is 48213." },
  { role: "user", content: "What is the access code of Clara Whitfield?" },
];
try {
  const first = await load("needle", { context: 512 });
  await first.generate(messages, { maxTokens: 1 }).result();
  await writeFile(path, first.saveSession(messages));
  await first.close();

  const second = await load("needle", { context: 1024 });
  const source = await fileSource(path);
  const { tokens } = await second.restoreSession(source);
  await source.close();
  const { text, reusedTokens } = await second.generate(messages).result();
  console.log(`${tokens} tokens restored, ${reusedTokens} reused: ${text}`);
  await second.close();
} finally {
  await rm(folder, { recursive: true });
}
