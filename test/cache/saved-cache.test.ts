/** Saved caches: what is restored is what was saved, on any device, and nothing that is damaged or foreign is taken. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import {
  type CacheAccess,
  type CacheReader,
  openSavedCache,
  saveCache,
} from "../../src/cache/saved-cache.ts";
import type { Device, Graph, State } from "../../src/device/contract.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { Scheduler } from "../../src/engine/scheduler.ts";
import { Text } from "../../src/engine/text.ts";
import { restoreText, saveText } from "../../src/engine/text-save.ts";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { FormatError } from "../../src/format/errors.ts";
import type { Model } from "../../src/model/model.ts";
import { goldenModel, relativeError } from "../model/golden.ts";

const OWNER = { name: "golden", fingerprint: "0123", rope: "4567" };
const VOCAB = 200;
const ids = (count: number, seed = 0) =>
  Array.from({ length: count }, (_, i) => ((i + 1) * (37 + seed)) % VOCAB);

async function bytesOf(pieces: AsyncGenerator<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
}

/** Opens texts of a golden model, and closes all when the tests are done. */
function textsOf(family: string) {
  let model: Model;
  const open: { close(): Promise<void> }[] = [];
  beforeAll(async () => {
    model = await goldenModel(family);
  });
  afterAll(() => Promise.all([...open.map((one) => one.close()), model.checkpoint.close()]));

  return async (
    device: Device,
    codec: string,
    { chunk = 7, context = 160, texts = 1, oneVector = false } = {},
  ) => {
    const options = { context, maxTokens: chunk, maxOutputs: texts, codec: kvCodec(codec), texts, oneVector };
    const graph = model.record(options);
    const allocation = await device.allocate(graph);
    open.push(allocation);
    for (const weight of graph.weights) await allocation.load(weight, model.tensor(weight));
    const scheduler = new Scheduler(graph, allocation, device, { context, vocab: model.config.vocab });
    return {
      scheduler,
      read: (tokens: readonly number[]) => new Text(scheduler).sync(tokens),
      save: (tokens: readonly number[]) => bytesOf(saveText(scheduler, OWNER, tokens)),
      restore: async (bytes: Uint8Array) =>
        (await restoreText(scheduler, OWNER, bufferSource("saved", bytes))).length,
    };
  };
}

describe.each(["gemma3", "llama"])("%s", (family) => {
  const opened = textsOf(family);

  it.each(["int4", "f16", "rq4"])("%s: going on from a file is going on, bit for bit", async (codec) => {
    const device = await wasmDevice({ threads: 1 });
    const there = await opened(device, codec, { texts: 2 });
    const here = await opened(device, codec);
    for (const tokens of [1, 32, 33, 64, 105, 101]) {
      await here.read(ids(tokens));
      const bytes = await here.save(ids(tokens));
      expect(await there.restore(bytes)).toBe(tokens);
      const more = [...ids(tokens), 5, 6, 7, 8, 9, 10, 11, 12];
      const found = await there.read(more);
      const wanted = await here.read(more);
      expect([found.reused, wanted.reused]).toEqual([tokens, tokens]);
      expect(found.logits).toEqual(wanted.logits);
    }
  });

  it("packed: going on from a file is going on, bit for bit; what it says of packed tokens must fit", async () => {
    const kv = "k4c-v4r-n32-f32";
    const there = await opened(referenceDevice(), kv, { texts: 2 });
    const here = await opened(referenceDevice(), kv);
    for (const tokens of [1, 33, 64, 105]) {
      await here.read(ids(tokens));
      const bytes = await here.save(ids(tokens));
      expect(await there.restore(bytes)).toBe(tokens);
      const more = [...ids(tokens), 5, 6, 7, 8];
      const found = await there.read(more);
      expect(found.reused).toBe(tokens);
      expect(found.logits).toEqual((await here.read(more)).logits);
    }
    const bytes = await here.save(ids(105));
    for (const packed of [undefined, null, -32, 0, 63, 65, 128, "64", 1e9]) {
      const changed = await withHeader((header) => ({ ...header, packed }), 4, bytes);
      await expect(there.restore(changed)).rejects.toThrow(/saved: packed/);
    }
    // It may be more than is needed, but then the bytes are others.
    const more = await withHeader((header) => ({ ...header, packed: 96 }), 4, bytes);
    await expect(there.restore(more)).rejects.toThrow(/bytes; allowed: \d+, by its header/);
  });

  it("goes to another device, chunk and context, and says there what it said", async () => {
    const here = await opened(await wasmDevice({ threads: 1 }), "f16");
    const there = await opened(referenceDevice(), "f16", { chunk: 20, context: 140 });
    const [a, b] = [await here.read(ids(105)), await here.save(ids(105))];
    expect(a.reused).toBe(0);
    expect(await there.restore(b)).toBe(105);
    const more = [...ids(105), 5, 6, 7];
    const found = await there.read(more);
    expect(found.reused).toBe(105);
    expect(relativeError(found.logits, (await here.read(more)).logits)).toBeLessThan(0.02);
    // And back again, with what was added.
    const back = await there.save(more);
    expect(await here.restore(back)).toBe(108);
    expect((await here.read([...more, 9])).reused).toBe(108);
  });

  it("asks a device for a head's keys or values of many pages at once", async () => {
    const one = await opened(referenceDevice(), "int4", { chunk: 40 });
    await one.read(ids(150));
    const { allocation, graph } = one.scheduler;
    const counts = { calls: 0, pages: 0 };
    const { readPages, writePages } = allocation;
    const count = (pages: readonly number[]) => {
      counts.calls++;
      counts.pages += pages.length;
    };
    Object.assign(allocation, {
      readPages: (...asked: Parameters<typeof readPages>) => {
        count(asked[1]);
        return readPages.apply(allocation, asked);
      },
      writePages: (...asked: Parameters<typeof writePages>) => {
        count(asked[1]);
        return writePages.apply(allocation, asked);
      },
    });
    // A call for each head of keys and of values up to 4,096 tokens.
    const heads = graph.caches.reduce((sum, { kvHeads }) => sum + 2 * kvHeads, 0);
    const saved = await bytesOf(saveText(one.scheduler, OWNER, ids(150)));
    expect(counts.calls).toBe(heads);
    expect(counts.pages).toBeGreaterThan(heads);
    const pages = counts.pages;
    await restoreText(one.scheduler, OWNER, bufferSource("saved", saved));
    expect(counts).toEqual({ calls: 2 * heads, pages: 2 * pages });
  });

  it("less than all is not saved, and what was refused is not known", async () => {
    const { read, save, restore, scheduler } = await opened(referenceDevice(), "f16");
    await expect(save(ids(40))).rejects.toThrow(
      "the text to save is held for the first 0 of its 40 tokens; allowed: one that was read",
    );
    const { logits } = await read(ids(40));
    await expect(save(ids(41))).rejects.toThrow("held for the first 40 of its 41 tokens");
    const bytes = await save(ids(40));
    const damaged = bytes.slice();
    damaged[damaged.length - 100] ^= 1;
    for (const [length, of] of [
      [80, 1],
      [80, 2],
      [80, 3],
    ])
      await read(ids(length, of));
    await expect(restore(damaged)).rejects.toThrow(/saved: values of layer \d+: damaged/);
    expect(scheduler.activity).toEqual({ running: 0, waiting: 0 });
    expect(scheduler.pages.used).toBe(0);
    const again = await read(ids(40));
    expect([again.reused, again.logits]).toEqual([0, logits]);
  });
});

describe("layers with one vector for key and value", () => {
  const opened = textsOf("gemma4-dense");
  const ids = (count: number) => Array.from({ length: count }, (_, i) => ((i + 1) * 37) % 96);

  it.each(["f16", "k4c-v4r-n32-f32"])("%s: go to another device and back", async (kv) => {
    const here = await opened(await wasmDevice({ threads: 1 }), kv, { oneVector: true });
    const there = await opened(referenceDevice(), kv, { oneVector: true });
    await here.read(ids(70));
    const bytes = await here.save(ids(70));
    expect(await there.restore(bytes)).toBe(70);
    // The same bytes, whatever a device's arrangement.
    expect(await there.save(ids(70))).toEqual(bytes);
    expect((await there.read([...ids(70), 5])).reused).toBe(70);
  });

  it("a device that holds keys and values otherwise refuses them, either way", async () => {
    const one = await opened(referenceDevice(), "f16", { oneVector: true });
    const apart = await opened(referenceDevice(), "f16");
    for (const of of [one, apart]) await of.read(ids(5));
    await expect(apart.restore(await one.save(ids(5)))).rejects.toThrow(
      "saved: layers[5]: one vector and 16 turned dims; allowed: keys and values apart, as this device holds them",
    );
    await expect(one.restore(await apart.save(ids(5)))).rejects.toThrow(
      "saved: layers[5]: keys and values apart; allowed: one vector and 16 turned dims, as this device",
    );
  });
});

/** Two small layers over a device that holds nothing. */
function access(
  change: Partial<{ codec: string; headDim: number; window: number; owner: object }> = {},
): CacheAccess {
  const { codec = "int4", headDim = 16, window = 8, owner = {} } = change;
  const pools = [null, window].map((of, id) => ({ id, window: of, pages: 2 }));
  const caches = pools.map((pool, id) => {
    return { id, layer: id, codec: kvCodec(codec), kvHeads: 1, headDim, pool };
  });
  return { graph: { caches, pools, states: [] } as unknown as Graph, owner: { ...OWNER, ...owner } };
}

const HELD = [
  { first: 0, pages: [0, 1] },
  { first: 0, pages: [1, 0] },
];
const pages: CacheReader["pages"] = async ({ cache }, held) =>
  Uint8Array.from(
    { length: held.length * 32 * cache.codec.vectorBytes(cache.headDim) },
    (_, i) => i * 7 + held[0],
  );
const state = async ({ values }: State) => new Uint8Array(values * 4).fill(values);

const LIMITS = { context: 64, vocab: VOCAB };
const whole = (change?: Parameters<typeof access>[0], tokens = 40) =>
  bytesOf(saveCache(access(change), ids(tokens), HELD, { pages, state }));
async function restored(bytes: Uint8Array, limits = LIMITS): Promise<readonly number[]> {
  const saved = await openSavedCache(bufferSource("saved", bytes), access(), limits);
  await saved.restore(HELD, { pages: async () => {}, state: async () => {} });
  return saved.ids;
}

/** The file with another header, its digests made anew up to the header's own. */
async function withHeader(
  change: (header: Record<string, unknown>) => unknown,
  version = 2,
  file?: Uint8Array,
): Promise<Uint8Array> {
  const bytes = file ?? (await whole());
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(12, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(16, 16 + length)));
  const changed = change(header);
  const text = new TextEncoder().encode(typeof changed === "string" ? changed : JSON.stringify(changed));
  const prologue = new Uint8Array(16 + text.length);
  prologue.set(bytes.subarray(0, 8));
  new DataView(prologue.buffer).setUint32(8, version, true);
  new DataView(prologue.buffer).setUint32(12, text.length, true);
  prologue.set(text, 16);
  const digest = await crypto.subtle.digest("SHA-256", Buffer.concat([new Uint8Array(32), prologue]));
  return Buffer.concat([prologue, new Uint8Array(digest), bytes.subarray(16 + length + 32)]);
}

describe("a file", () => {
  it("that is whole is taken, whatever the model is called now", async () => {
    expect(await restored(await whole())).toEqual(ids(40));
    expect(await restored(await whole({ owner: { name: "renamed" } }))).toEqual(ids(40));
  });

  it("with any byte changed is refused", async () => {
    const bytes = await whole();
    const refused = async (at: number, bit: number) => {
      const damaged = bytes.slice();
      damaged[at] ^= 1 << bit;
      await expect(restored(damaged), `byte ${at}, bit ${bit}`).rejects.toThrow(FormatError);
    };
    for (let at = 0; at < bytes.length; at++) await refused(at, at % 8);
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.nat(7), (at, bit) => refused(at, bit)),
      { numRuns: 100 },
    );
  });

  it("that is cut off, or goes on, is refused", async () => {
    const bytes = await whole();
    for (let length = 0; length < bytes.length; length += 7)
      await expect(restored(bytes.subarray(0, length)), `${length} bytes`).rejects.toThrow(FormatError);
    await expect(restored(bytes.subarray(0, 10))).rejects.toThrow("cut off");
    await expect(restored(bytes.subarray(0, bytes.length - 1))).rejects.toThrow(
      /saved: \d+ bytes; allowed: \d+, by its header/,
    );
    await expect(restored(Buffer.concat([bytes, new Uint8Array(1)]))).rejects.toThrow("by its header");
  });

  it("whose pieces stand in another order is refused", async () => {
    const bytes = Buffer.from(await whole());
    // The last two pieces, of equal length.
    const piece = 40 * kvCodec("int4").vectorBytes(16) + 32;
    const [a, b] = [bytes.length - 2 * piece, bytes.length - piece];
    const swapped = Buffer.concat([bytes.subarray(0, a), bytes.subarray(b), bytes.subarray(a, b)]);
    await expect(restored(swapped)).rejects.toThrow("damaged");
  });

  it.each([
    [{ codec: "f16" }, 'saved: codec: "f16"; allowed: "int4"'],
    [{ headDim: 32 }, "saved: layers[0].headDim: 32; allowed: 16"],
    [{ window: 9 }, "saved: layers[1].window: 9; allowed: 8"],
    [{ owner: { rope: "8" } }, 'saved: rope: "8"; allowed: "4567"'],
    [
      { owner: { fingerprint: "8", name: "other" } },
      'saved: fingerprint: "8", saved with "other"; allowed: "0123"',
    ],
  ])("of another kind is refused: %j", async (change, message) => {
    await expect(restored(await whole(change))).rejects.toThrow(message);
  });

  it("longer than the context, or with ids that the model has not, is refused", async () => {
    await expect(restored(await whole(), { ...LIMITS, context: 39 })).rejects.toThrow(
      "saved: tokens: 40; allowed: 1 to 39, the context that was loaded",
    );
    await expect(restored(await whole(), { ...LIMITS, vocab: 100 })).rejects.toThrow(
      /saved: ids: \d+; allowed: 0 to 99/,
    );
  });

  it.each<[string, (header: Record<string, unknown>) => unknown]>([
    ["no object", () => [1]],
    ["no JSON", () => "{"],
    ["a name twice", (header) => JSON.stringify(header).replace("{", '{"tokens":1,')],
    ["deep", () => "[".repeat(100_000)],
    ["no tokens", ({ tokens: _, ...rest }) => rest],
    ["huge tokens", (header) => ({ ...header, tokens: 1e15 })],
    ["negative tokens", (header) => ({ ...header, tokens: -1 })],
    ["half a token", (header) => ({ ...header, tokens: 1.5 })],
    ["more tokens than bytes", (header) => ({ ...header, tokens: 41 })],
    ["no layers", (header) => ({ ...header, layers: [] })],
    ["layers that are none", (header) => ({ ...header, layers: [null, 7] })],
    [
      "a first beyond",
      (header) => ({ ...header, layers: [{ ...(header.layers as object[])[0], first: 1 }] }),
    ],
    [
      "a first within a page",
      (header) => ({ ...header, layers: (header.layers as object[]).map((one) => ({ ...one, first: 8 })) }),
    ],
  ])("with a hostile header is refused: %s", async (_, change) => {
    await expect(restored(await withHeader(change))).rejects.toThrow(FormatError);
  });

  it("of another version, or of another kind altogether, is named", async () => {
    await expect(restored(await withHeader((header) => header, 1))).rejects.toThrow(
      "saved: version: 1; allowed: 2",
    );
    await expect(restored(new TextEncoder().encode('{"kind":"nibble conversation"}'))).rejects.toThrow(
      "a saved cache",
    );
    const huge = await whole();
    new DataView(huge.buffer, huge.byteOffset).setUint32(12, 0xffffffff, true);
    await expect(restored(huge)).rejects.toThrow("saved: header: 4294967295 bytes");
  });
});
