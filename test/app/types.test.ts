/** The declarations that are published, as a strict program meets them that checks libraries, too, and has no Node types. */
import { spawnSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { requireFreshBuild, root } from "./nibble.ts";

const PROGRAM = `
import { type ChatMessage, load, runTools, tool } from "nibble-llm";
import { nibble, nibbleEmbedding } from "nibble-llm/ai-sdk";
import { kvBytes, plannedGpu, plannedModel, planMemory, planTable } from "nibble-llm/plan";
import { createFetch } from "nibble-llm/server";
import { type Verdict, verifyModel } from "nibble-llm/verify";
await using model = await load("needle", { kv: "int4", device: "cpu" });
await using text = model.open("Once");
await using generation = text.generate({ stop: "." });
const messages: ChatMessage[] = [{ role: "user", content: "Where?" }];
const now = tool({ name: "now", parameters: { type: "object" }, run: () => 1 });
const { result } = await runTools(model, messages, { tools: [now], stop: ["."] });
for await (const part of model.generate(messages, { tools: [now] }).parts())
  if (part.kind === "call") part.call.arguments;
const fetch: (request: Request) => Promise<Response> = createFetch(model);
const words: string[] = [result.content, await generation.text(), nibble(model).modelId, \`\${fetch}\`];
const { embeddings } = await nibbleEmbedding(model).doEmbed({ values: words });
const shape = await plannedModel("llama-3.1-8b", "q4_k_m");
const tokens: number[] = planTable(shape, plannedGpu()).formats.map(({ longestContext }) => longestContext);
const bytes: number = kvBytes(planMemory(shape, plannedGpu(), { context: 4096 }), "kv3");
const verdicts: Verdict[] = [];
for await (const row of verifyModel("needle", { kv: ["int4"] })) if (row.kind === "verdict") verdicts.push(row);
export { words, embeddings, tokens, bytes, verdicts };
`;

it("pass with skipLibCheck false", () => {
  requireFreshBuild();
  const folder = mkdtempSync(join(tmpdir(), "nibble-types-"));
  try {
    mkdirSync(join(folder, "node_modules"));
    symlinkSync(root, join(folder, "node_modules/nibble-llm"));
    writeFileSync(join(folder, "package.json"), '{"type":"module"}');
    writeFileSync(join(folder, "a.ts"), PROGRAM);
    const lib = ["es2023", "esnext.disposable", "dom", "dom.asynciterable"];
    const strict = { strict: true, skipLibCheck: false, noEmit: true, types: [] };
    const compilerOptions = { module: "nodenext", lib, target: "es2022", ...strict };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["a.ts"] }));
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    const { stdout, status } = spawnSync(process.execPath, [tsc, "-p", folder], { encoding: "utf8" });
    expect({ stdout, status }).toEqual({ stdout: "", status: 0 });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

// scripts/declarations.js. By hand, 2026-11-28: the program above passes with TypeScript 5.4.5, 5.9.3, 6.0.3 and 7.0.2, nodenext and bundler.
it("have nothing that TypeScript 5.4 cannot read", () => {
  const names = readFileSync(join(root, "dist/webgpu-names.d.ts"), "utf8");
  for (const file of readdirSync(join(root, "dist"), { recursive: true, encoding: "utf8" })) {
    if (!file.endsWith(".d.ts")) continue;
    const text = readFileSync(join(root, "dist", file), "utf8");
    expect(text, file).not.toMatch(/\b\w+\d+Array<(?:Shared)?ArrayBuffer/);
    const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
    const used = new Set(code.match(/\bGPU(?:[A-Z]\w*)?\b/g) ?? []);
    if (used.size > 0 && !file.startsWith("webgpu-names")) expect(text).toMatch(/^\/\/\/ <reference path=/);
    for (const name of used) expect(names).toContain(`interface ${name} {`);
  }
});
