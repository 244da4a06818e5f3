/** Loading: progress, wrong files, aborts, and that nothing is left open behind any of them. */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { load } from "../../src/answer/load.ts";
import type { DeviceMemory } from "../../src/device/contract.ts";
import { findModel } from "../../src/engine/find-model.ts";
import { type LoadOptions, type LoadProgress, openDevice } from "../../src/engine/load.ts";
import { loadEngineModel } from "../../src/engine/load-checkpoint.ts";
import { AbortedError, ArgumentError, FormatError, MemoryError } from "../../src/format/errors.ts";
import { openCheckpoint } from "../../src/format/open.ts";
import { inspect } from "../../src/study/inspect.ts";
import type { KeyValue, WrittenTensor } from "../format/write-gguf.ts";
import { openFiles, TELLS_RESOURCES, threads, tinyModel } from "./tiny-model.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "nibble-load-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function written(bytes: Uint8Array): string {
  const path = join(folder, `model-${files++}.gguf`);
  writeFileSync(path, bytes);
  return path;
}

/** The error of a load; afterwards the file is closed and no thread more is running. */
async function failure(path: string, options: LoadOptions = {}): Promise<Error> {
  // The first load of a process starts threads that stay: the file system's pool.
  await (await load(written(tinyModel()), { threads: 1 })).close();
  const before = TELLS_RESOURCES ? threads() : 0;
  const error = await load(path, { threads: 2, ...options }).then(
    async (model) => {
      await model.close();
      throw new Error("it was loaded");
    },
    (error: Error) => error,
  );
  if (TELLS_RESOURCES) {
    expect(openFiles(path)).toBe(0);
    await expect.poll(threads).toBeLessThanOrEqual(before);
  }
  return error;
}

/** With fewer rows in the matrices of ids. */
function firstRows(tensors: WrittenTensor[], rows: number): WrittenTensor[] {
  return tensors.map((tensor) => {
    if (tensor.name !== "token_embd.weight" && tensor.name !== "output.weight") return tensor;
    const [cols, all] = tensor.dims.map(Number);
    const data = tensor.data!.subarray(0, (tensor.data!.length / all) * rows);
    return { ...tensor, dims: [cols, rows], data };
  });
}

describe("a tiny model", () => {
  it("loads on both devices, says the same, and leaves nothing open", async () => {
    const path = written(tinyModel());
    const found: (readonly number[])[] = [];
    for (const device of ["cpu", "reference"] as const) {
      const model = await load(path, { device, threads: 2, kv: "f16" });
      const { ids } = await model.generate("abc", { maxTokens: 3, ignoreEnd: true }).result();
      found.push(ids);
      await model.close();
      if (TELLS_RESOURCES) expect(openFiles(path)).toBe(0);
    }
    expect(found[0]).toEqual(found[1]);
  });

  it.each(["cpu", "reference"] as const)(
    "may have more rows than its tokenizer has tokens: they are left out, the others say what they said: %s",
    async (device) => {
      // An odd number of tokens: the last panel of rows is not full.
      const logits: Float32Array[] = [];
      for (const [rows, tied] of [
        [265, false],
        [300, false],
        [265, true],
        [300, true],
      ] as const) {
        const tensors = (all: WrittenTensor[]) => all.filter(({ name }) => !tied || name !== "output.weight");
        const path = written(
          tinyModel({ rows: 300, pieces: 6, tensors: (all) => firstRows(tensors(all), rows) }),
        );
        const model = await load(path, { device, threads: 1, kv: "f16" });
        try {
          expect([model.config.vocab, model.tokenizer.vocab]).toEqual([265, 265]);
          const options = { maxTokens: 8, temperature: 5, topK: 0, topP: 1, minP: 0, seed: 3, logprobs: 100 };
          const told: number[] = [];
          for await (const { likelihoods } of model.generate("abcf", options))
            told.push(
              ...likelihoods!.flatMap(({ id, logprob, top }) => [id, logprob, ...top.map((one) => one.id)]),
            );
          expect(told.length).toBeGreaterThan(100);
          logits.push(Float32Array.from(told));
          await expect(model.generate({ ids: [265] }, { maxTokens: 1 }).result()).rejects.toThrow(
            /token id is 265; allowed: integers 0 to 264/,
          );
        } finally {
          await model.close();
        }
      }
      expect(logits[1]).toEqual(logits[0]);
      expect(logits[3]).toEqual(logits[2]);
    },
  );

  it("with fewer rows than its tokenizer has tokens is refused, and told by inspect", async () => {
    const path = written(tinyModel({ rows: 262, pieces: 6 }));
    const wrong =
      /tokenizer\.ggml\.tokens: 265 tokens, of which "d" is number 262; allowed: 262, the rows of the model's matrix/;
    expect((await failure(path)).message).toMatch(wrong);
    expect((await inspect(path)).problems).toEqual([expect.stringMatching(wrong)]);
  });

  it("is planned with the memory that the machine tells, or says that it does not", async () => {
    const GIB = 2 ** 30;
    const open = async (memory: DeviceMemory | null | undefined, memoryBytes?: number) => {
      const device = async () => ({ ...(await openDevice({ device: "cpu", threads: 1 })), memory });
      const model = await loadEngineModel(await openCheckpoint(written(tinyModel())), device, {
        memoryBytes,
      });
      const { plan, warnings } = model;
      await model.close();
      return { memory: plan.memory, warnings: warnings.filter((line) => line.includes("memory")) };
    };
    const told = { bytes: 9 * GIB, source: "nvidia-smi" };
    expect(await open(told)).toEqual({ memory: told, warnings: [] });
    expect(await open(told, GIB)).toEqual({ memory: { bytes: GIB, source: "" }, warnings: [] });
    expect(await open(null)).toEqual({
      memory: null,
      warnings: [expect.stringContaining("does not report how much memory this GPU has")],
    });
    expect(await open(null, GIB)).toMatchObject({ warnings: [] });
    // A page.
    expect(await open(undefined)).toEqual({ memory: null, warnings: [] });
    await expect(open({ ...told, bytes: 128 * 2 ** 20 })).rejects.toThrow(MemoryError);
  });

  it("with wide SIMD is refused by name where V8 has none, and next to a GPU", async () => {
    const [major] = process.versions.node.split(".").map(Number);
    const isThere = major >= 24 && process.arch === "x64";
    const path = written(tinyModel());
    if (isThere) {
      const wide = await load(path, { wideSimd: true, threads: 1 });
      expect(wide.device).toMatch(/relaxed SIMD of 256 bits, 1 thread$/);
      await wide.close();
    } else {
      const error = await failure(path, { wideSimd: true });
      expect(error.message).toMatch(
        /^wide SIMD in Node .* is not supported\. It needs Node 24 or later on x64\./,
      );
    }
    const error = await failure(path, { wideSimd: true, device: "gpu" });
    expect(error.message).toMatch(/^wideSimd is true; allowed: false unless the device is cpu/);
  });

  it("that does not fit is refused before anything is allocated", async () => {
    const error = await failure(written(tinyModel()), { memoryBytes: 100 * 2 ** 20 });
    expect(error).toBeInstanceOf(MemoryError);
    expect(error.message).toMatch(/need \d\.\d\d GiB; the memory is 0\.10 GiB\. /);
  });

  it("may lack rows of tokens that only their text gives, as Gemma 3's for images: they are text", async () => {
    const keys = (all: KeyValue[]): KeyValue[] =>
      all.map(([key, type, value]) => {
        const { items = [], ...rest } = value as { items?: unknown[] };
        if (key === "tokenizer.ggml.tokens") return [key, type, { ...rest, items: [...items, "<image>"] }];
        if (key === "tokenizer.ggml.scores") return [key, type, { ...rest, items: [...items, 0] }];
        if (key === "tokenizer.ggml.token_type") return [key, type, { ...rest, items: [...items, 3] }];
        return [key, type, value];
      });
    const model = await load(written(tinyModel({ keys })), { threads: 1 });
    try {
      expect([model.config.vocab, model.tokenizer.vocab]).toEqual([264, 264]);
      const { tokenizer } = model;
      expect(tokenizer.encode("<image>", { special: true })).toEqual(tokenizer.encode("<image>"));
      expect([...tokenizer.controlIds]).toEqual([0, 1, 2]);
      expect((await model.generate("<image>", { maxTokens: 1 }).result()).generatedTokens).toBe(1);
    } finally {
      await model.close();
    }
  });
});

describe("progress", () => {
  it.each(["cpu", "reference"] as const)("rises to its total, which stays: %s", async (device) => {
    const seen: LoadProgress[] = [];
    const path = written(tinyModel());
    const model = await load(path, {
      device,
      threads: 1,
      onProgress: (progress) => seen.push({ ...progress }),
    });
    await model.close();
    expect(seen.length).toBeGreaterThan(5);
    for (let i = 1; i < seen.length; i++) expect(seen[i].bytes).toBeGreaterThan(seen[i - 1].bytes);
    expect(new Set(seen.map(({ totalBytes }) => totalBytes)).size).toBe(1);
    expect(seen[seen.length - 1].bytes).toBe(seen[0].totalBytes);
  });

  it("that throws ends the load with its error", async () => {
    const error = await failure(written(tinyModel()), {
      onProgress: () => {
        throw new RangeError("mine");
      },
    });
    expect(error).toEqual(new RangeError("mine"));
  });
});

describe("aborting", () => {
  it("before it begins opens nothing", async () => {
    expect(await failure("nowhere.gguf", { signal: AbortSignal.abort() })).toBeInstanceOf(AbortedError);
  });

  it("on the way frees threads and files", async () => {
    const controller = new AbortController();
    const error = await failure(written(tinyModel()), {
      signal: controller.signal,
      onProgress: ({ bytes, totalBytes }) => bytes > totalBytes / 2 && controller.abort(),
    });
    expect(error).toBeInstanceOf(AbortedError);
  });
});

describe("wrong files", () => {
  const replaced = (name: string, by: Partial<WrittenTensor> | null) =>
    tinyModel({
      tensors: (all) =>
        all.flatMap((tensor) => (tensor.name !== name ? [tensor] : by ? [{ ...tensor, ...by }] : [])),
    });

  it("a truncated needle, at any length", async () => {
    const whole = readFileSync(await findModel("needle"));
    for (const part of [10, 5000, whole.length >> 1, whole.length - 1])
      expect(await failure(written(whole.subarray(0, part)))).toBeInstanceOf(FormatError);
  });

  it("one that shrinks while it is read", async () => {
    const path = written(tinyModel());
    const error = await failure(path, { onProgress: () => truncateSync(path, 9000) });
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toContain("shrank");
  });

  it.each(["blk.1.attn_k.weight", "blk.0.ffn_norm.weight", "output_norm.weight", "token_embd.weight"])(
    "without %s",
    async (name) => {
      const error = await failure(written(replaced(name, null)));
      expect(error).toBeInstanceOf(FormatError);
      expect(error.message).toMatch(/no tensor/);
    },
  );

  it("tensors of a wrong shape are named with both shapes", async () => {
    const square = { dims: [64, 32], data: new Uint8Array(64 * 34) };
    const error = await failure(written(replaced("blk.1.attn_output.weight", square)));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toContain("blk.1.attn_output.weight: shape 32 x 64; allowed: 64 x 64");
    const short = { dims: [63], data: new Uint8Array(63 * 4) };
    expect(await failure(written(replaced("blk.0.attn_norm.weight", short)))).toBeInstanceOf(FormatError);
    const embedding = { dims: [32, 264], data: new Uint8Array(264 * 34) };
    expect(await failure(written(replaced("token_embd.weight", embedding)))).toBeInstanceOf(FormatError);
  });

  it("a broken tokenizer is found before memory is taken", async () => {
    const spy = vi.spyOn(WebAssembly, "Memory");
    try {
      const bytes = tinyModel({ keys: (all) => all.filter(([key]) => key !== "tokenizer.ggml.tokens") });
      const calls = spy.mock.calls.length;
      const error = await load(written(bytes)).catch((error: Error) => error);
      expect(error).toBeInstanceOf(FormatError);
      expect(spy.mock.calls.length).toBe(calls);
    } finally {
      spy.mockRestore();
    }
  });

  it("a model that does not fit is refused before memory is taken", async () => {
    const spy = vi.spyOn(WebAssembly, "Memory");
    const path = written(tinyModel({ keys: (all) => all.map(longContext) }));
    try {
      const error = await load(path, { context: 2 ** 27 }).catch((error: Error) => error);
      expect(error).toMatchObject({ code: "memory", context: 2 ** 27 });
      expect(spy).not.toHaveBeenCalled();
    } finally {
      spy.mockRestore();
    }
    if (TELLS_RESOURCES) expect(openFiles(path)).toBe(0);
  });
});

function longContext(entry: readonly [string, number, unknown]): [string, number, unknown] {
  const [key, type, value] = entry;
  return key === "llama.context_length" ? [key, type, 2 ** 27] : [key, type, value];
}

describe("arguments", () => {
  it.each([
    { device: "abacus" },
    { threads: 0 },
    { threads: 65 },
    { threads: 1.5 },
    { context: 129 },
    { chunk: 0 },
    { kv: "q3" },
  ])("%o is refused", async (options) => {
    const path = written(tinyModel());
    expect(await failure(path, options as LoadOptions)).toBeInstanceOf(ArgumentError);
  });

  it("names that are no paths", async () => {
    await expect(load("")).rejects.toThrow(ArgumentError);
    await expect(load("hf:name")).rejects.toThrow(ArgumentError);
    await expect(load(join(folder, "none.gguf"))).rejects.toMatchObject({ code: "io" });
  });
});
