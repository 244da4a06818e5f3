/** Names on the Hub, and which files of a repository they mean. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError, FormatError, UnsupportedError } from "../../../src/format/errors.ts";
import { hubName } from "../../../src/format/hub/name.ts";
import { pickFiles, pickShards } from "../../../src/format/hub/pick.ts";
import { Ranges } from "../../../src/format/hub/ranges.ts";

describe("a name", () => {
  it.each([
    ["hf:owner/name", ["owner", "name", "main", null]],
    [
      "hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q8_0",
      ["bartowski", "Llama-3.2-1B-Instruct-GGUF", "main", "Q8_0"],
    ],
    ["hf:a/b@refs/pr/1:q4_k_m", ["a", "b", "refs/pr/1", "q4_k_m"]],
    ["hf:a/b:q4_k_m@v1.0", ["a", "b", "v1.0", "q4_k_m"]],
    ["hf:a/b_c.d:sub/x-00001-of-00002.gguf", ["a", "b_c.d", "main", "sub/x-00001-of-00002.gguf"]],
  ])("%s", (text, [owner, name, revision, quant]) => {
    expect(hubName(text!)).toEqual({ text, owner, name, revision, quant });
  });

  it.each([
    ...["hf:", "hf:name", "hf:a/b/c", "hf:/b", "hf:a/", "hf:../b", "hf:a/..", "hf:a/b@", "hf:a/b:", "HF:a/b"],
    ...["hf:a/b@../x", "hf:a/b@x/../../y", "hf:a/b@/etc", "hf:a/b@a//b", "hf:a/b:../x.gguf", "hf:a/b@x@y"],
    ...["hf:a--b/c", "hf:a/.b", "hf:a/b.", "hf:-a/b", "hf:a/b.git", "hf:a/b c", "hf:a/b\n", "hf:a\\b/c"],
    ...[
      "hf:a/b:x:y",
      "hf:a/b?x=1",
      "hf:a/b#x",
      "hf:a/b%2f",
      `hf:a/${"b".repeat(200)}`,
      "hf:a/b@\0",
      "owner/name",
    ],
  ])("%j is refused", (text) => {
    expect(() => hubName(text)).toThrow(ArgumentError);
    expect(() => hubName(text)).toThrow(/allowed: hf:owner\/name/);
  });

  it("leads nowhere else, whatever is typed", () => {
    const part = fc.string({ unit: fc.constantFrom(..."ab.-_/\\@:%~ \0\n"), maxLength: 12 });
    fc.assert(
      fc.property(part, (text) => {
        let found: ReturnType<typeof hubName>;
        try {
          found = hubName(`hf:${text}`);
        } catch (error) {
          expect(error).toBeInstanceOf(ArgumentError);
          return;
        }
        for (const value of [found.owner, found.name]) expect(value).toMatch(/^[\w][\w.-]*$/);
        for (const value of [found.revision, found.quant ?? "x"])
          expect(value.split("/").some((piece) => ["", ".", ".."].includes(piece))).toBe(false);
      }),
      { numRuns: 2000 },
    );
  });
});

const gigabyte = (path: string, bytes = 1e9) => ({ path, bytes });
const pick = (quant: string, ...paths: string[]) => {
  const { files, opens } = pickFiles(
    hubName(`hf:a/b${quant}`),
    paths.map((path) => gigabyte(path)),
  );
  return [opens, ...files.map(({ path }) => path).filter((path) => path !== opens)];
};

describe("of GGUF files", () => {
  const usual = [
    "README.md",
    "x-Q8_0.gguf",
    "x-Q4_K_M.gguf",
    "x-IQ2_XXS.gguf",
    "mmproj-x-Q4_K_M.gguf",
    "x-F16.gguf",
  ];

  it("Q4_K_M is the default, and the next best where it is missing", () => {
    expect(pick("", ...usual)).toEqual(["x-Q4_K_M.gguf"]);
    expect(pick("", "x-F16.gguf", "x-Q8_0.gguf", "x-Q6_K.gguf")).toEqual(["x-Q6_K.gguf"]);
    expect(pick("", "gemma-3-1b-it-q4_0.gguf", "mmproj-model-f16-1B.gguf")).toEqual([
      "gemma-3-1b-it-q4_0.gguf",
    ]);
    expect(pick("", "x-UD-Q4_K_XL.gguf", "x-UD-IQ1_S.gguf")).toEqual(["x-UD-Q4_K_XL.gguf"]);
    expect(pick("", "x-IQ2_XXS.gguf", "x-NVFP4.gguf", "x-IQ3_XXS.gguf")).toEqual(["x-NVFP4.gguf"]);
    expect(pick("", "x-UD-IQ1_M.gguf", "x-UD-IQ3_XXS.gguf")).toEqual(["x-UD-IQ3_XXS.gguf"]);
    expect(pick("", "model.gguf")).toEqual(["model.gguf"]);
  });

  it.each([
    [":Q8_0", "x-Q8_0.gguf"],
    [":q8_0", "x-Q8_0.gguf"],
    [":iq2_xxs", "x-IQ2_XXS.gguf"],
    [":f16", "x-F16.gguf"],
    [":x-F16.gguf", "x-F16.gguf"],
  ])("%s in any case, or a file's name", (quant, file) => {
    expect(pick(quant, ...usual)).toEqual([file]);
  });

  it("the last of several words counts, separators differ", () => {
    expect(pick(":q8_0", "Q4_0-study.Q8_0.gguf", "x.q4_0.gguf")).toEqual(["Q4_0-study.Q8_0.gguf"]);
    expect(pick(":f16", "x-fp16.gguf", "y-Q8_0.gguf")).toEqual(["x-fp16.gguf"]);
    expect(pick(":q4_k_xl", "x-UD-Q4_K_XL.gguf", "x-Q4_K_M.gguf")).toEqual(["x-UD-Q4_K_XL.gguf"]);
  });

  it("of which many would do are listed in part", () => {
    const many = Array.from({ length: 50_000 }, (_, i) => `folder/model-${i}.gguf`);
    const told = (quant: string, paths: string[]) => {
      try {
        pick(quant, ...paths);
      } catch (error) {
        expect(error).toBeInstanceOf(ArgumentError);
        return (error as Error).message;
      }
      return "";
    };
    expect(told("", many)).toMatch(/one of several files, as .*model-0\.gguf.*, and 49980 more$/);
    expect(told("", many).length).toBeLessThan(2000);
    expect(told(":Q8_0", many).length).toBeLessThan(2000);
    expect(told(":Q2_K", ["a-Q8_0.gguf", "a-Q4_0.gguf"])).not.toContain("more");
  });

  it("all parts of a split one, in order", () => {
    const parts = [3, 1, 2].map((i) => `Q8_0/x-Q8_0-0000${i}-of-00003.gguf`);
    expect(pick(":Q8_0", "x-Q4_K_M.gguf", ...parts)).toEqual([...parts].sort());
    expect(() => pick(":Q8_0", ...parts.slice(1))).toThrow(FormatError);
    expect(() => pick(":Q8_0", ...parts.slice(1))).toThrow(/2 of 3 parts/);
  });

  it("one that is not there is an error that lists what is, with sizes", () => {
    expect(() => pick(":Q5_K_M", ...usual)).toThrow(ArgumentError);
    expect(() => pick(":Q5_K_M", ...usual)).toThrow(
      /hf:a\/b:Q5_K_M; allowed: .*Q8_0 \(1\.00 GB\).*Q4_K_M \(1\.00 GB\)/,
    );
  });

  it("two of one quantization need a file's name", () => {
    const two = ["base-Q4_K_M.gguf", "chat-Q4_K_M.gguf"];
    for (const quant of ["", ":q4_k_m"])
      expect(() => pick(quant, ...two)).toThrow(/hf:a\/b:FILE.*base-Q4_K_M\.gguf/);
    expect(pick(":chat-Q4_K_M.gguf", ...two)).toEqual(["chat-Q4_K_M.gguf"]);
  });
});

describe("of safetensors", () => {
  const text = ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];

  it("the folder with what belongs to it, and nothing else", () => {
    const others = ["pytorch_model.bin", "consolidated.safetensors", "original/params.json", "README.md"];
    expect(pick("", ...text, "model.safetensors", ...others)).toEqual(["", ...text, "model.safetensors"]);
  });

  it("the shards that the index names", () => {
    const name = hubName("hf:a/b");
    const shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    const files = [...text, "model.safetensors.index.json", ...shards].map((path) => gigabyte(path));
    expect(pickFiles(name, files).index?.path).toBe("model.safetensors.index.json");
    const index = { a: shards[1], b: shards[0], c: shards[1] };
    expect(pickShards(name, files, index).map(({ path }) => path)).toEqual([shards[1], shards[0]]);
    expect(() => pickShards(name, files, { a: "../evil" })).toThrow(FormatError);
    expect(() => pickShards(name, files, { a: 7 })).toThrow(FormatError);
  });

  it("no quantization, no tokenizer, no model are errors", () => {
    expect(() => pick(":q8_0", ...text, "model.safetensors")).toThrow(ArgumentError);
    expect(() => pick("", "config.json", "model.safetensors")).toThrow(/without tokenizer\.json/);
    expect(() => pick("", ...text, "pytorch_model.bin")).toThrow(UnsupportedError);
    expect(() => pick("", ...text, "pytorch_model.bin")).toThrow(/it holds pytorch_model\.bin/);
    expect(() => pick("")).toThrow(/it holds nothing/);
  });
});

describe("ranges", () => {
  it("are what a set of bytes says", () => {
    const size = 40;
    const range = fc
      .tuple(fc.nat(size), fc.nat(size))
      .map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
    fc.assert(
      fc.property(fc.array(range, { maxLength: 12 }), fc.integer({ min: 1, max: 50 }), (all, piece) => {
        const bytes = new Uint8Array(size);
        for (const [start, end] of all) bytes.fill(1, start, end);
        const ranges = new Ranges(all);
        expect(ranges.bytes).toBe(bytes.reduce((sum, byte) => sum + byte, 0));
        expect(ranges.prefix).toBe(bytes.includes(0) ? bytes.indexOf(0) : size);
        const missing = ranges.missing(size, piece);
        for (const [start, end] of missing) {
          expect(end - start).toBeGreaterThan(0);
          expect(end - start).toBeLessThanOrEqual(piece);
          expect(bytes.subarray(start, end).every((byte) => byte === 0)).toBe(true);
          bytes.fill(1, start, end);
        }
        expect(bytes.every((byte) => byte === 1)).toBe(true);
      }),
    );
  });
});
