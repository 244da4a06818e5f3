import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { attentionIn } from "../../src/model/config.ts";
import { inspect } from "../../src/study/inspect.ts";
import { tinyModel } from "../engine/tiny-model.ts";
import { type KeyValue, T, type WrittenTensor, writeGguf } from "../format/write-gguf.ts";
import { nibble, requireFreshBuild, root } from "./nibble.ts";

let folder: string;
beforeAll(() => {
  requireFreshBuild();
  folder = mkdtempSync(join(tmpdir(), "nibble-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function withToken(keys: KeyValue[], from: string, to: string): KeyValue[] {
  return keys.map(([key, type, value]) => {
    if (key !== "tokenizer.ggml.tokens") return [key, type, value];
    const { items, ...rest } = value as { items: string[] };
    return [key, type, { ...rest, items: items.map((text) => (text === from ? to : text)) }];
  });
}

describe("inspect", () => {
  it("measures needle-14m", async () => {
    const found = await inspect("needle");
    expect(found).toMatchObject({
      kind: "gguf",
      parameters: 14_162_304,
      problems: [],
      config: { family: "llama", trainedContext: 32768 },
      tokenizer: { vocab: 4096, bos: { id: 1, text: "<|begin|>" }, ends: [{ id: 2, text: "<|end|>" }] },
    });
    expect(found.config!.layers.length).toBe(8);
    // 8 layers, keys and values, 2 heads of 64 values: 16 bits a value, 5 bits (4 and a scale and zero for 32), and 4.25
    // (4 and a scale for 64).
    const token = 8 * 2 * 2 * 64;
    const size = (format: string, bits: number) => ({
      format,
      fullBytesPerToken: (token * bits) / 8,
      slidingBytesPerToken: 0,
      trainedContextBytes: (32768 * token * bits) / 8,
    });
    expect(found.kv).toEqual([size("f16", 16), size("int4", 5), size("rq4", 4.25)]);
    expect(found.template).toContain("add_generation_prompt");
    expect(found.fileBytes).toBeGreaterThan(found.tensors.reduce((sum, { bytes }) => sum + bytes, 0));
  });

  it("counts sliding layers apart and names what a folder lacks", async () => {
    const found = await inspect(join(root, "test/golden/models/gemma3"));
    const { layers } = found.config!;
    const { kvHeads, headDim } = attentionIn(layers[0]);
    const token = 2 * kvHeads * headDim * 2;
    const sliding = layers.filter((layer) => attentionIn(layer).window !== null).length;
    expect(sliding).toBeGreaterThan(0);
    expect(found.kv[0]).toMatchObject({
      fullBytesPerToken: token * (layers.length - sliding),
      slidingBytesPerToken: token * sliding,
    });
    expect(found.tokenizer).toBeNull();
    expect(found.problems.join()).toMatch(/tokenizer/);
    expect(found.stateBytes).toBe(0);
  });

  it("counts what recurrent layers hold of a text, at any length", async () => {
    const found = await inspect(join(root, "test/golden/models/qwen3_5"));
    // Three layers: four heads of 16 x 16, and three inputs of 128 channels.
    expect(found.stateBytes).toBe(3 * 4 * (4 * 16 * 16 + 3 * 128));
    expect(found.kv[0].fullBytesPerToken).toBe(2 * 32 * 2);
  });
});

describe("nibble inspect", () => {
  it("prints a report", async () => {
    const { code, stdout, stderr } = await nibble(["inspect", "needle"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    for (const text of [
      "14,162,304 parameters",
      "llama, Needle 14M",
      "6 query, 2 key and value, of 64",
      "32,768 tokens",
      "<|end|> (2)",
      "4,096 bytes a token; 128 MiB at 32,768 tokens",
      "1,280 bytes a token; 40.0 MiB at 32,768 tokens",
      "q8_0  57 tensors",
      "token_embd.weight",
    ])
      expect(stdout).toContain(text);
  });

  it("gives JSON, and the template alone", async () => {
    const { stdout } = await nibble(["inspect", "needle", "--json"]);
    const found = JSON.parse(stdout);
    expect(found.tensorTypes.map(({ type }: { type: string }) => type)).toEqual(["q8_0", "f32"]);
    expect(found.tensors).toHaveLength(74);
    expect(found.metadata["tokenizer.ggml.tokens"]).toBe("array of 4096");
    const template = await nibble(["inspect", "needle", "--template"]);
    expect(template.stdout).toBe(found.template);
  });

  it("describes a file of an unknown architecture as far as it goes", async () => {
    const path = join(folder, "new.gguf");
    const control = String.fromCharCode(27);
    writeFileSync(
      path,
      writeGguf({
        keys: [
          ["general.architecture", T.string, "mammoth"],
          ["general.name", T.string, `red${control}[31m`],
          ["mammoth.tusks", T.u32, 2],
        ],
        tensors: [{ name: "hide.weight", dims: [32, 4], type: 0, data: new Uint8Array(512) }],
      }),
    );
    const { code, stdout } = await nibble(["inspect", path]);
    expect(code).toBe(0);
    for (const text of [
      '"mammoth" is not supported',
      "hide.weight",
      "f32 4 x 32, 512 bytes",
      "mammoth.tusks",
    ])
      expect(stdout).toContain(text);
    expect(stdout).not.toContain(control);
  });

  it("warns of a byte-level vocabulary that does not say how text is cut, and so does what loads it", async () => {
    const path = join(folder, "old.gguf");
    const keys = (all: KeyValue[]): KeyValue[] => [
      ...all.filter(([key]) => key !== "tokenizer.ggml.model"),
      ["tokenizer.ggml.model", T.string, "gpt2"],
      ["tokenizer.ggml.merges", T.array, { type: T.string, items: ["a b"] }],
    ];
    writeFileSync(path, tinyModel({ pieces: 6, keys: (all) => withToken(keys(all), "f", "ab") }));
    const warning = expect.stringMatching(/tokenizer\.ggml\.pre is missing.*--pre-tokenizer/);
    expect(await inspect(path)).toMatchObject({ problems: [], warnings: [warning] });
    expect(JSON.parse((await nibble(["inspect", path, "--json"])).stdout).warnings).toEqual([warning]);
    expect((await nibble(["inspect", path])).stdout).toMatch(/^warning: .*tokenizer\.ggml\.pre is missing/m);
    const { code, stderr } = await nibble(["run", path, "ab", "-n", "1", "--device", "cpu"]);
    expect(code).toBe(0);
    expect(stderr).toMatch(/^nibble: warning: .*tokenizer\.ggml\.pre is missing.*\n$/);

    const named = (all: KeyValue[]): KeyValue[] => [...all, ["tokenizer.ggml.pre", T.string, "gpt-2"]];
    writeFileSync(path, tinyModel({ pieces: 6, keys: (all) => named(withToken(keys(all), "f", "ab")) }));
    expect(await inspect(path)).toMatchObject({ problems: [], warnings: [] });
  });

  it("warns of a chat template that cannot be used, and so does what loads it; text is continued all the same", async () => {
    const path = join(folder, "template.gguf");
    const templates = {
      "{% if %}": /cannot be read: tokenizer\.chat_template: not a Jinja template/,
      "{{ raise_exception('never') }}": /fails on a plain question: .*never/,
    };
    for (const [source, words] of Object.entries(templates)) {
      const keys = (all: KeyValue[]): KeyValue[] => [...all, ["tokenizer.chat_template", T.string, source]];
      writeFileSync(path, tinyModel({ pieces: 6, keys }));
      const warning = expect.stringMatching(words);
      expect(await inspect(path)).toMatchObject({ problems: [], template: source, warnings: [warning] });
      const { code, stderr } = await nibble(["run", path, "ab", "-n", "1", "--device", "cpu", "--raw"]);
      expect([code, stderr]).toEqual([0, expect.stringMatching(/^nibble: warning: the chat template .*\n$/)]);
      const asked = await nibble(["run", path, "ab", "-n", "1", "--device", "cpu"]);
      expect([asked.code, asked.stderr.split("\n")[0]]).toEqual([1, expect.stringMatching(words)]);
    }
  });

  it("names weight types, and warns of NVFP4's quality; its scales are no tensors of the model", async () => {
    const path = join(folder, "nvfp4.gguf");
    const scale = (name: string): WrittenTensor => {
      return { name, dims: [1], type: 0, data: new Uint8Array(Float32Array.of(0.01).buffer) };
    };
    const tensors = (all: WrittenTensor[]): WrittenTensor[] => [
      ...all.map((tensor): WrittenTensor => {
        if (!/attn_[qv]/.test(tensor.name)) return tensor;
        // Blocks of any bytes: nothing of them is read.
        const [type, bytes] = tensor.name.includes("attn_q") ? [40, 36] : [42, 18];
        return { ...tensor, type, data: new Uint8Array(Number(tensor.dims[1]) * bytes) };
      }),
      ...[scale("blk.0.attn_q.scale"), scale("blk.0.attn_q.input_scale")],
    ];
    writeFileSync(path, tinyModel({ tensors }));
    const found = await inspect(path);
    expect(found.problems).toEqual([]);
    const [query] = found.tensors.filter(({ name }) => name === "blk.0.attn_q.weight");
    expect(query).toMatchObject({ type: "nvfp4", rows: 64, cols: 64, bytes: 64 * 36 });
    expect(found.tensors.find(({ name }) => name === "blk.1.attn_v.weight")).toMatchObject({ type: "q2_0" });
    expect(found.tensors.filter(({ name }) => name.endsWith("scale"))).toEqual([]);
    expect(found.warnings.join()).toMatch(/NVFP4.*quality of Q3_K/);
  });

  it("says in one line what is wrong with a file", async () => {
    const path = join(folder, "page.gguf");
    writeFileSync(path, "<!doctype html>");
    const { code, stdout, stderr } = await nibble(["inspect", path]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(/^nibble: .*page\.gguf.*\n$/);
  });
});
