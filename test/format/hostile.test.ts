/**
 * Damaged and hostile headers by the thousand, made from real ones. Whatever the bytes, a reader either succeeds or
 * rejects with one NibbleError; it never asks for bytes that the file has not, and reads none twice, so that its
 * memory is in proportion to the file. (A count that were allocated unchecked would throw RangeError: a failure here.)
 */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NibbleError } from "../../src/format/errors.ts";
import type { Folder } from "../../src/format/folder.ts";
import { readGguf } from "../../src/format/gguf.ts";
import { openSafetensors } from "../../src/format/safetensors.ts";
import type { Source } from "../../src/format/source.ts";
import { rowBytes, type Tensor } from "../../src/format/tensor.ts";
import { memoryFolder, watchedSource } from "./memory-folder.ts";
import { type KeyValue, T, writeGguf } from "./write-gguf.ts";
import { withHeader, writeSafetensors } from "./write-safetensors.ts";

/** The same runs every time; raise RUNS and change SEED to look for more. */
const SEED = Number(process.env.HOSTILE_SEED ?? 20260917);
const RUNS = Number(process.env.HOSTILE_RUNS ?? 2000);

const NEEDLE = new Uint8Array(
  readFileSync(new URL("../../models/needle-14m/needle-14m-Q8_0.gguf", import.meta.url)),
);
/** Where tensor data starts. */
const NEEDLE_HEADER = 135_840;
const LLAMA = new Uint8Array(
  readFileSync(new URL("../golden/models/llama/model.safetensors", import.meta.url)),
);
const LLAMA_HEADER = 8 + new DataView(LLAMA.buffer, LLAMA.byteOffset).getUint32(0, true);

/** Every value type, an array of each kind, several tensors: small, so that most bytes mean something. */
const SMALL = writeGguf({
  keys: [
    ["general.architecture", T.string, "llama"],
    ["general.alignment", T.u32, 64],
    ["a", T.u8, 1],
    ["b", T.i16, -5],
    ["c", T.u64, 77],
    ["d", T.f32, 0.5],
    ["e", T.bool, 1],
    ["f", T.array, { type: T.string, items: ["x", "yz", ""] }],
    ["g", T.array, { type: T.i32, items: [1, 2, 3] }],
    ["h", T.array, { type: T.array, items: [{ type: T.bool, items: [1, 0] }] }],
    ["i", T.array, { type: T.u64, items: [9] }],
  ] as KeyValue[],
  alignment: 64,
  tensors: [
    { name: "t.weight", dims: [32, 4], type: 8, data: new Uint8Array(136) },
    { name: "u.weight", dims: [256, 2, 2], type: 12, data: new Uint8Array(576) },
    { name: "v.weight", dims: [3], type: 0, data: new Uint8Array(12) },
  ],
});

const extreme = fc.constantFrom(
  ...[
    0n,
    1n,
    7n,
    255n,
    2n ** 16n,
    2n ** 31n,
    2n ** 32n - 1n,
    2n ** 40n,
    2n ** 53n,
    2n ** 60n,
    2n ** 63n,
    2n ** 64n - 1n,
  ],
);

/** Turns bytes into other bytes; offsets are fractions of the length, so that a change can follow another. */
type Change = (bytes: Uint8Array) => Uint8Array;

function changes(weights: { start: number; end: number }): fc.Arbitrary<Change> {
  // Half of the places fall where the structure is densest: the front, and the tensor list at the end.
  const place = fc.oneof(
    fc.double({ min: 0, max: weights.start, noNaN: true }),
    fc.double({ min: weights.end, max: 1, noNaN: true }),
    fc.double({ min: 0, max: 1, noNaN: true }),
  );
  const at = (bytes: Uint8Array, fraction: number) => Math.floor(fraction * bytes.length);
  const edit = (bytes: Uint8Array, make: (copy: Uint8Array, view: DataView) => void) => {
    const copy = bytes.slice();
    make(copy, new DataView(copy.buffer));
    return copy;
  };
  return fc.oneof(
    fc.tuple(place, fc.nat(255)).map(
      ([f, byte]): Change =>
        (b) =>
          edit(b, (copy) => void (copy[at(b, f)] = byte)),
    ),
    fc.tuple(place, fc.nat(7)).map(
      ([f, bit]): Change =>
        (b) =>
          edit(b, (copy) => void (copy[at(b, f)] ^= 1 << bit)),
    ),
    fc.tuple(place, extreme).map(
      ([f, value]): Change =>
        (b) => {
          if (b.length < 8) return b;
          return edit(b, (_, view) => view.setBigUint64(Math.min(at(b, f), b.length - 8), value, true));
        },
    ),
    fc.tuple(place, fc.nat(64)).map(
      ([f, n]): Change =>
        (b) =>
          cut(b, at(b, f), at(b, f) + n, 0),
    ),
    fc.tuple(place, fc.nat(64)).map(
      ([f, n]): Change =>
        (b) =>
          cut(b, at(b, f), at(b, f), n),
    ),
    fc.tuple(place, place).map(
      ([f, g]): Change =>
        (b) => {
          // A piece repeated: duplicate keys, tensors that overlap.
          const from = at(b, f);
          return edit(b, (copy) => copy.copyWithin(at(b, g), from, from + 60));
        },
    ),
  );
}

function cut(bytes: Uint8Array, from: number, to: number, zeros: number): Uint8Array {
  return new Uint8Array(Buffer.concat([bytes.subarray(0, from), new Uint8Array(zeros), bytes.subarray(to)]));
}

/** Fails unless `open` settles as it should; then reads a row of every tensor under the same rule. */
async function settles(
  source: Source & { readonly bytesRead: number },
  open: () => Promise<{ tensors: ReadonlyMap<string, Tensor>; close(): Promise<void> }>,
): Promise<boolean> {
  try {
    const { tensors, close } = await open();
    expect(source.bytesRead).toBeLessThanOrEqual(source.size);
    for (const tensor of tensors.values()) {
      const bytes = rowBytes(tensor.type, tensor.cols);
      expect(tensor.rows * bytes).toBeLessThanOrEqual(source.size);
      await tensor.readRows(tensor.rows - 1, 1, new Uint8Array(bytes));
    }
    await close();
    return true;
  } catch (error) {
    if (!(error instanceof NibbleError)) throw error;
    expect(source.bytesRead).toBeLessThanOrEqual(source.size);
    expect(error.message.length).toBeLessThan(1000);
    return false;
  }
}

const openGguf = (bytes: Uint8Array) => {
  const source = watchedSource("hostile.gguf", bytes);
  return settles(source, () => readGguf(source));
};

async function many<Case>(cases: fc.Arbitrary<Case>, run: (one: Case) => Promise<unknown>, runs = RUNS) {
  await fc.assert(
    fc.asyncProperty(cases, async (one) => void (await run(one))),
    { numRuns: runs, seed: SEED },
  );
}

const several = (change: fc.Arbitrary<Change>) => fc.array(change, { minLength: 1, maxLength: 4 });
const apply = (bytes: Uint8Array, list: readonly Change[]) => list.reduce((b, change) => change(b), bytes);

describe("hostile GGUF", () => {
  it("refuses a small file cut off anywhere", async () => {
    expect(await openGguf(SMALL)).toBe(true);
    for (let bytes = 0; bytes < SMALL.length; bytes++)
      expect(await openGguf(SMALL.slice(0, bytes))).toBe(false);
  });

  it("refuses needle-14m cut off anywhere", async () => {
    const cut = fc.oneof(fc.nat(NEEDLE_HEADER), fc.nat(NEEDLE.length - 1));
    await many(
      cut,
      async (bytes) => expect(await openGguf(NEEDLE.subarray(0, bytes))).toBe(false),
      RUNS / 10,
    );
  });

  it("survives any byte of a small header changed to any extreme", async () => {
    for (let at = 0; at < SMALL.length - 800; at++) {
      for (const byte of [0, 1, 9, 127, 255]) {
        const bytes = SMALL.slice();
        bytes[at] = byte;
        await openGguf(bytes);
      }
    }
  });

  it("survives changes to a small header", async () => {
    await many(several(changes({ start: 0.5, end: 0.3 })), (list) => openGguf(apply(SMALL, list)), 3 * RUNS);
  });

  it("survives changes to needle-14m's header", async () => {
    const header = NEEDLE.subarray(0, NEEDLE_HEADER);
    const list = several(changes({ start: 0.01, end: 0.96 }));
    // The tensors of a file of headers alone lie beyond its end, so nothing but an error can come of it.
    await many(list, (one) => openGguf(apply(header, one)), RUNS / 2);
  });

  it("survives bytes without any sense behind the magic", async () => {
    const bytes = fc.uint8Array({ maxLength: 300 });
    const front = SMALL.subarray(0, 8);
    await many(bytes, (tail) => openGguf(new Uint8Array(Buffer.concat([front, tail]))));
  });

  it.each([
    ["numbers", T.u8, 2 ** 39],
    ["strings", T.string, 2 ** 30],
    ["booleans", T.bool, 2 ** 30],
    ["arrays", T.array, 2 ** 20],
  ])("does not take a terabyte of zeros for leave to allocate %s", async (_, type, count) => {
    const front = writeGguf({ keys: [["a", T.array, { type, items: [], count }]] });
    let bytesRead = 0;
    const source: Source = {
      name: "sparse.gguf",
      size: 2 ** 40,
      async read(offset, into) {
        bytesRead += into.length;
        if (offset < front.length) into.set(front.subarray(offset, offset + into.length));
      },
      async close() {},
    };
    await expect(readGguf(source)).rejects.toThrow(
      `${count} ${type === T.u8 ? "numbers" : "values"} in "a"; allowed: `,
    );
    expect(bytesRead).toBeLessThan(2 ** 20);
  });

  it("survives arrays nested a thousand deep and shapes of every kind", async () => {
    const dims = fc.array(fc.oneof(extreme, fc.bigInt({ min: 0n, max: 64n })), { maxLength: 6 });
    const tensor = fc.record({ dims, type: fc.nat(45), offset: fc.oneof(extreme, fc.constant(undefined)) });
    const inner = fc.record({ type: fc.nat(14), depth: fc.nat(1000), count: extreme });
    await many(fc.tuple(fc.array(tensor, { maxLength: 4 }), inner), ([tensors, { type, depth, count }]) => {
      let value: unknown = { type, items: [], count };
      for (let i = 0; i < depth; i++) value = { type: T.array, items: [value] };
      const keys: KeyValue[] = depth === 0 ? [] : [["nested", T.array, value]];
      const named = tensors.map((one, i) => ({ ...one, name: `t${i}`, data: new Uint8Array(64) }));
      return openGguf(writeGguf({ keys, tensors: named }));
    });
  });
});

describe("hostile safetensors", () => {
  const openBytes = (bytes: Uint8Array, tail?: Uint8Array) => {
    const source = watchedSource("model.safetensors", bytes, tail);
    const files = memoryFolder({ "config.json": "{}" });
    const folder: Folder = {
      name: "folder",
      open: async (file) => (file === "model.safetensors" ? source : files.open(file)),
    };
    return settles(source, () => openSafetensors(folder));
  };

  it("refuses a header cut off anywhere, and weights cut off anywhere", async () => {
    expect(await openBytes(LLAMA)).toBe(true);
    const cut = fc.oneof(fc.nat(LLAMA_HEADER), fc.nat(LLAMA.length - 1));
    await many(cut, async (bytes) => expect(await openBytes(LLAMA.subarray(0, bytes))).toBe(false), RUNS / 2);
  });

  it("survives changes to the header", async () => {
    const list = several(changes({ start: 0.1, end: 0.5 }));
    const header = LLAMA.subarray(0, LLAMA_HEADER);
    await many(list, (one) => openBytes(apply(header, one), LLAMA.subarray(LLAMA_HEADER)));
  });

  it("survives any numbers and names in the header", async () => {
    const text = new TextDecoder().decode(LLAMA.subarray(8, LLAMA_HEADER));
    const numbers = [...text.matchAll(/\d+/g)];
    const value = fc.constantFrom(
      "0",
      "1",
      "-1",
      "0.5",
      "1e3",
      "1e308",
      "9007199254740993",
      "null",
      '"x"',
      "[]",
      "{}",
    );
    const swap = fc.tuple(fc.nat(numbers.length - 1), value);
    await many(
      swap,
      ([i, put]) => {
        const { index, 0: found } = numbers[i];
        const header = text.slice(0, index) + put + text.slice(index + found.length);
        return openBytes(withHeader(header), LLAMA.subarray(LLAMA_HEADER));
      },
      RUNS / 2,
    );
  });

  it("survives any JSON as a header", async () => {
    await many(fc.json({ maxDepth: 4 }), (json) => openBytes(withHeader(json, [new Uint8Array(64)])));
  });

  it("survives any quantization in config.json", async () => {
    const u32 = { dtype: "U32", shape: [2, 8], data: new Uint8Array(64) };
    const f16 = { dtype: "F16", shape: [2, 1], data: new Uint8Array(4) };
    const bytes = writeSafetensors({ "m.weight": u32, "m.scales": f16, "m.biases": f16 });
    const number = fc.oneof(
      fc.constantFrom(4, 8, 32, 64, 128, 0, -1, 2 ** 60),
      fc.jsonValue({ maxDepth: 1 }),
    );
    const own = fc.oneof(fc.record({ bits: number, group_size: number }), fc.jsonValue({ maxDepth: 2 }));
    const quantization = fc.record({ bits: number, group_size: number, m: own }, { requiredKeys: [] });
    await many(fc.oneof(quantization, fc.jsonValue()), async (found) => {
      const config = JSON.stringify({ quantization: found });
      const source = watchedSource("model.safetensors", bytes);
      const files = memoryFolder({ "config.json": config });
      const folder = {
        name: "f",
        open: async (f: string) => (f === "model.safetensors" ? source : files.open(f)),
      };
      return settles(source, () => openSafetensors(folder));
    });
  });

  it("survives any JSON as an index", async () => {
    const shard = writeSafetensors({ a: { dtype: "U8", shape: [1], data: new Uint8Array(1) } });
    const file = fc.oneof(fc.constantFrom("s", "../s", "/s", "t"), fc.jsonValue({ maxDepth: 1 }));
    const index = fc.oneof(
      fc.record({ weight_map: fc.dictionary(fc.constantFrom("a", "b"), file) }),
      fc.jsonValue(),
    );
    await many(index, async (found) => {
      const files = { "config.json": "{}", "model.safetensors.index.json": JSON.stringify(found), s: shard };
      const folder = memoryFolder(files);
      const outcome = await openSafetensors(folder).catch((error) => error);
      if (outcome instanceof Error) {
        if (!(outcome instanceof NibbleError)) throw outcome;
        expect(folder.opened()).toBe(0);
      }
    });
  });
});
