import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { safetensorsCheckpoint } from "../../src/format/checkpoints.ts";
import { type ErrorCode, NibbleError } from "../../src/format/errors.ts";
import { openCheckpoint } from "../../src/format/open.ts";
import { memoryFolder } from "./memory-folder.ts";
import { T, writeGguf } from "./write-gguf.ts";
import { writeSafetensors } from "./write-safetensors.ts";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const NEEDLE = here("../../models/needle-14m/needle-14m-Q8_0.gguf");

const dir = mkdtempSync(join(tmpdir(), "nibble-open-"));
afterAll(() => rmSync(dir, { recursive: true }));

function written(name: string, content: Uint8Array | string): string {
  writeFileSync(join(dir, name), content);
  return join(dir, name);
}

describe("openCheckpoint", () => {
  it("opens a GGUF file, with its tokenizer and template made once", async () => {
    const checkpoint = await openCheckpoint(NEEDLE);
    expect(checkpoint).toMatchObject({ kind: "gguf", name: NEEDLE });
    expect(checkpoint.tensors.size).toBe(74);
    const tokenizer = await checkpoint.tokenizer();
    expect(tokenizer.vocab).toBe(4096);
    expect(await checkpoint.tokenizer()).toBe(tokenizer);
    expect((await checkpoint.chatTemplate())?.source).toContain("{");
    await checkpoint.close();
  });

  it("opens a GGUF file under any name", async () => {
    copyFileSync(NEEDLE, join(dir, "no-extension"));
    const checkpoint = await openCheckpoint(join(dir, "no-extension"));
    expect(checkpoint.kind).toBe("gguf");
    await checkpoint.close();
  });

  it("opens a split GGUF file from any of its parts", async () => {
    for (const part of [0, 1]) {
      const keys: [string, number, unknown][] = [
        ["split.no", T.u16, part],
        ["split.count", T.u16, 2],
      ];
      const tensors = [{ name: `t${part}`, dims: [2], type: 0, data: new Uint8Array(8) }];
      written(`s-0000${part + 1}-of-00002.gguf`, writeGguf({ keys, tensors }));
    }
    const checkpoint = await openCheckpoint(join(dir, "s-00002-of-00002.gguf"));
    expect([...checkpoint.tensors.keys()]).toEqual(["t0", "t1"]);
    await checkpoint.close();
  });

  it.each(["llama", "gemma3", "qwen2", "qwen3", "mistral"])("opens the %s golden folder", async (family) => {
    const folder = here(`../golden/models/${family}`);
    const checkpoint = await openCheckpoint(folder);
    expect(checkpoint).toMatchObject({ kind: "safetensors", name: folder });
    expect(checkpoint.metadata.hidden_size).toBe(128);
    expect(checkpoint.tensors.get("model.embed_tokens.weight")).toMatchObject({ type: "bf16", cols: 128 });
    await expect(checkpoint.tokenizer()).rejects.toThrow(/a folder without tokenizer.json/);
    expect(await checkpoint.chatTemplate()).toBeNull();
    await checkpoint.close();
  });

  mkdirSync(join(dir, "empty"));
  mkdirSync(join(dir, "ggufs"));
  writeFileSync(join(dir, "ggufs", "b.gguf"), "");
  it.each<[string, string, ErrorCode, RegExp]>([
    ["a missing path", join(dir, "absent"), "io", /absent: no such file or folder/],
    ["an empty file", written("none.gguf", ""), "format", /an empty file; allowed: a GGUF file, or/],
    [
      "a text file",
      written("notes.txt", "hello, model"),
      "format",
      /notes.txt starts with "hello, m"; allowed: a GGUF/,
    ],
    [
      "a zipped pickle",
      written("model.bin", "PK\x03\x04..."),
      "unsupported",
      /a PyTorch pickle is not supported. Convert/,
    ],
    ["a pickle", written("model.pt", Uint8Array.of(0x80, 2, 0x8a)), "unsupported", /a PyTorch pickle/],
    [
      "a file from before GGUF",
      written("old.bin", "tjgg...."),
      "unsupported",
      /a GGML file from before GGUF/,
    ],
    [
      "a git-lfs pointer",
      written("p.gguf", "version https://git-lfs.github.com/spec/v1"),
      "format",
      /run git lfs pull/,
    ],
    [
      "a file of a folder",
      written("model.safetensors", writeSafetensors({})),
      "format",
      /the folder's path: .*nibble-open/,
    ],
    [
      "a GGUF cut off",
      written("cut.gguf", "GGUF\x03\0\0\0"),
      "format",
      /a GGUF header needs 24 bytes; allowed: the 8/,
    ],
    [
      "a folder without config.json",
      join(dir, "empty"),
      "format",
      /a folder without config.json; allowed: a GGUF/,
    ],
    ["a folder of GGUF files", join(dir, "ggufs"), "format", /the path of one of them: b.gguf/],
  ])("refuses %s", async (_, path, code, message) => {
    const error = await openCheckpoint(path).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(NibbleError);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
  });
});

describe("a safetensors folder's texts", () => {
  const files = {
    "config.json": "{}",
    "model.safetensors": writeSafetensors({}),
    "tokenizer_config.json": JSON.stringify({ chat_template: "from config", bos_token: "<s>" }),
  };
  const template = async (more: Record<string, string>) => {
    const folder = memoryFolder({ ...files, ...more });
    const checkpoint = await safetensorsCheckpoint(folder);
    const found = await checkpoint.chatTemplate();
    await checkpoint.close();
    expect(folder.opened()).toBe(0);
    return found?.source;
  };

  it("takes the chat template from its own file before tokenizer_config.json", async () => {
    expect(await template({})).toBe("from config");
    expect(await template({ "chat_template.json": '{"chat_template": "from json"}' })).toBe("from json");
    expect(await template({ "chat_template.json": "{}", "chat_template.jinja": "from jinja" })).toBe(
      "from jinja",
    );
  });

  it("takes the ids that end a text from config.json where generation_config.json is missing", async () => {
    const model = { type: "BPE", vocab: { a: 0, b: 1, c: 2 }, merges: [] };
    const own = { ...files, "tokenizer_config.json": "{}", "tokenizer.json": JSON.stringify({ model }) };
    const ends = async (config: object, more: Record<string, string> = {}) => {
      const folder = memoryFolder({ ...own, "config.json": JSON.stringify(config), ...more });
      return [...(await (await safetensorsCheckpoint(folder)).tokenizer()).endIds];
    };
    expect(await ends({ eos_token_id: [1, 2], bos_token_id: 0 })).toEqual([1, 2]);
    expect(await ends({ eos_token_id: 1 }, { "generation_config.json": '{"eos_token_id": 0}' })).toEqual([0]);
    expect(await ends({ eos_token_id: null })).toEqual([]);
    await expect(ends({ eos_token_id: 3 })).rejects.toThrow("eos_token_id: 3; allowed: 0 to 2");
  });

  it("points from tokenizer.model to tokenizer.json", async () => {
    const checkpoint = await safetensorsCheckpoint(memoryFolder({ ...files, "tokenizer.model": "x" }));
    await expect(checkpoint.tokenizer()).rejects.toThrow(
      /tokenizer.model without tokenizer.json is not supported. Save/,
    );
  });
});
