/** `nibble quantize` with an importance, from its arguments to its line: a text, and the file that it left. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { quantizeCommand } from "../../src/app/quantize.ts";
import { tinyModel } from "../engine/tiny-model.ts";

let folder = "";
const at = (name: string) => join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "nibble-quantize-command-"));
  await writeFile(at("tiny.gguf"), tinyModel());
  await writeFile(at("letters.txt"), "abcde".repeat(30));
});
afterAll(() => rm(folder, { recursive: true }));

/** What goes to stdout. */
async function quantized(target: string, ...rest: string[]): Promise<string> {
  let out = "";
  const taken = vi.spyOn(process.stdout, "write").mockImplementation((text, ...done) => {
    out += text;
    for (const call of done) if (typeof call === "function") call();
    return true;
  });
  try {
    const program = new Command();
    quantizeCommand(program, new AbortController().signal);
    const names = ["quantize", at("tiny.gguf"), at(target), "--type", "q4_0", "--json", "--threads", "1"];
    await program.parseAsync([...names, ...rest], { from: "user" });
  } finally {
    taken.mockRestore();
  }
  return out;
}

it("takes a text or a file, and keeps what the text gave", async () => {
  const out = ["--importance-out", at("importance.gguf")];
  const made = await quantized("a.gguf", "--importance", at("letters.txt"), ...out);
  expect(JSON.parse(made)).toMatchObject({ importance: { matrices: 14, datasets: ["letters.txt"] } });
  await quantized("b.gguf", "--importance", at("importance.gguf"));
  expect(Buffer.compare(await readFile(at("a.gguf")), await readFile(at("b.gguf")))).toBe(0);
});
