/**
 * What any device has to hold with several texts: rows of one change nothing of another, in one step or in turn; a copied
 * page is as good as a written one; pages come and go. To the last bit where the same kernels run over the same bytes,
 * within a tolerance where another number of rows chooses other kernels.
 */
import { expect } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import { poolPages, recentPages } from "../../src/cache/layers.ts";
import { type Device, type Graph, PAGE_SLOTS, type PagePlace } from "../../src/device/contract.ts";
import { pageBytes } from "../../src/device/page-bytes.ts";
import { Recorder } from "../../src/device/recorder.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { ropeFrequencies } from "../../src/model/rope.ts";
import { PagedTexts } from "./paged.ts";
import { randomTensor } from "./random-tensor.ts";
import { expectSame } from "./same.ts";

const VOCAB = 97;
const HEADS = 4;
const KV_HEADS = 2;
const HEAD_DIM = 64;
const CHUNK = 40;
const CONTEXT = 200;
const WINDOW = 20;
const TEXTS = 3;

/** One full and one sliding layer over the same random keys and values. turned: keys end with values (Cache.turned). */
export function pageGraph(kv: string, texts = TEXTS, turned = 0): Graph {
  const op = new Recorder(CHUNK, TEXTS);
  const input = (name: string, cols: number) => op.embed(op.weight(name, "matrix", "f32", VOCAB, cols), 20);
  const rope = op.ropeTable(ropeFrequencies(10_000, turned || HEAD_DIM));
  const queries = op.rope(input("queries", HEADS * (HEAD_DIM + turned)), HEADS, rope);
  const keys = op.rope(input("keys", KV_HEADS * (turned || HEAD_DIM)), KV_HEADS, rope);
  const values = input("values", KV_HEADS * HEAD_DIM);
  const needs = { cacheTokens: texts * CONTEXT, texts, maxTokens: CHUNK };
  const attended = [null, WINDOW].map((window, layer) => {
    const pool = op.pool(window, poolPages(window, needs) + texts);
    const shape = { kvHeads: KV_HEADS, headDim: HEAD_DIM, turned };
    const cache = op.cache({ layer, codec: kvCodec(kv), ...shape, pool });
    op.appendKv(cache, keys, values);
    return op.attend(cache, queries, { heads: HEADS, scale: 1 / Math.sqrt(HEAD_DIM) });
  });
  const { packed } = kvCodec(kv);
  if (packed) op.recentPool(recentPages(packed, needs) + texts);
  const blocks = Math.ceil(CONTEXT / PAGE_SLOTS);
  return op.finish(op.takeOutputs(op.add(attended[0], attended[1])), { texts, blocks });
}

function placesOf({ caches }: Graph): Required<PagePlace>[] {
  return caches.flatMap((cache) =>
    (cache.codec.packed ? [false, true] : [false]).flatMap((isRecent) =>
      (["keys", "values"] as const).flatMap((part) =>
        Array.from({ length: KV_HEADS }, (_, kvHead) => ({ cache, part, kvHead, isRecent })),
      ),
    ),
  );
}

/** Ids of a text's next tokens. */
function idsOf(texts: PagedTexts, text: number, tokens: number, seed: number): number[] {
  return Array.from({ length: tokens }, (_, i) => ((texts.positions[text] + i + 1) * seed) % VOCAB);
}

/** Runs `tokens` more of a text alone; what the last of them attends to. */
async function alone(texts: PagedTexts, text: number, tokens: number, seed: number): Promise<Float32Array> {
  await texts.run([{ text, ids: idsOf(texts, text, tokens, seed) }]);
  return texts.allocation.read(texts.graph.logits, 0, 1);
}

/** Kernels for few and for many rows round otherwise; a wrong page is off by 1. */
const TOLERANCE = 2e-2;

function expectNear(found: Float32Array, wanted: Float32Array): void {
  const rms = (x: Float32Array) => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length);
  expect(rms(found.map((v, i) => v - wanted[i]))).toBeLessThan(TOLERANCE * rms(wanted));
}

export const pageCases: readonly (readonly [
  string,
  (device: Device, kv: string, turned?: number) => Promise<void>,
])[] = [
  [
    "texts that take turns change nothing of each other",
    (device, kv, turned) =>
      allocated(device, kv, turned, async (texts) => {
        const steps = [33, 1, CHUNK, 1, 1, CHUNK, 7];
        const found: Float32Array[][] = [];
        for (let text = 0; text < TEXTS; text++) {
          found.push([]);
          for (const tokens of steps) found[text].push(await alone(texts, 0, tokens, 31 + text));
          texts.end(0);
        }
        for (const [i, tokens] of steps.entries())
          for (const text of [2, 0, 1])
            expect(await alone(texts, text, tokens, 31 + text)).toEqual(found[text][i]);
      }),
  ],
  [
    "rows of several texts in one step are as good as each text's alone",
    (device, kv, turned) =>
      allocated(device, kv, turned, async (texts) => {
        // Prompts together, prompts with generation, generation of all.
        const steps = [
          [13, 27, 0],
          [1, 32, 7],
          [1, 1, 1],
          [0, 1, 1],
          [5, 1, 34],
          [1, 1, 1],
          [33, 1, 1],
          [1, 0, 1],
        ];
        const wanted: Float32Array[][] = [];
        for (let text = 0; text < TEXTS; text++) {
          wanted.push([]);
          for (const tokens of steps.map((step) => step[text]))
            wanted[text].push(tokens ? await alone(texts, 0, tokens, 31 + text) : new Float32Array());
          texts.end(0);
        }
        for (const [i, step] of steps.entries()) {
          // Another order of runs in each step.
          const order = [0, 1, 2].map((n) => (n + i) % TEXTS).filter((text) => step[text] > 0);
          await texts.run(order.map((text) => ({ text, ids: idsOf(texts, text, step[text], 31 + text) })));
          for (const [row, text] of order.entries())
            expectNear(await texts.allocation.read(texts.graph.logits, row, 1), wanted[text][i]);
        }
      }),
  ],
  [
    "copied pages are as good as written ones, and both texts go on apart",
    (device, kv, turned) =>
      allocated(device, kv, turned, async (texts) => {
        for (const prefix of [[7], [CHUNK, 24], [CHUNK, CHUNK, CHUNK, 25]]) {
          for (const tokens of prefix) await alone(texts, 0, tokens, 31);
          await texts.copy(0, 2);
          const found = [await alone(texts, 2, 3, 5), await alone(texts, 2, 1, 5)];
          const kept = await alone(texts, 0, 2, 31);

          for (const tokens of prefix) await alone(texts, 1, tokens, 31);
          expect(kept).toEqual(await alone(texts, 1, 2, 31));
          texts.end(1);
          for (const tokens of prefix) await alone(texts, 1, tokens, 31);
          expect(found).toEqual([await alone(texts, 1, 3, 5), await alone(texts, 1, 1, 5)]);
          for (let text = 0; text < TEXTS; text++) texts.end(text);
        }
      }),
  ],
  [
    "what a page holds can be read in the codec's bytes, the reference's own, and written elsewhere",
    (device, kv, turned) =>
      allocated(device, kv, turned, async (texts) => {
        const chunks = [CHUNK, CHUNK, 9];
        for (const tokens of chunks) await alone(texts, 0, tokens, 31);
        const { allocation, graph } = texts;
        // Pages of another text get what those of the first hold.
        texts.beginLike(2, 0);
        await allocated(referenceDevice(), kv, turned, async (same) => {
          for (const tokens of chunks) await alone(same, 0, tokens, 31);
          for (const { cache, part, kvHead, isRecent } of placesOf(graph)) {
            const other = same.graph.caches[cache.id];
            const poolOf = (of: Graph) => (isRecent ? of.recentPool! : of.caches[cache.id].pool);
            const all = Array.from({ length: Math.ceil(texts.positions[0] / PAGE_SLOTS) }, (_, b) => b);
            // The last first: pages come in the order in which they are asked for.
            const blocks = all
              .filter((block) => texts.page(poolOf(graph), 0, block) !== undefined)
              .filter((block) => {
                const { packed } = cache.codec;
                return isRecent || !packed || (block >= packed.firstPages && block < texts.packed[0]);
              })
              .reverse();
            const place = { cache, part, kvHead, isRecent };
            const pages = (text: number) => blocks.map((block) => texts.page(poolOf(graph), text, block)!);
            const bytes = await allocation.readPages(place, pages(0));
            const size = pageBytes(cache, part, isRecent);
            expect(bytes.length).toBe(blocks.length * size);
            const wanted = await same.allocation.readPages(
              { cache: other, part, kvHead, isRecent },
              blocks.map((block) => same.page(poolOf(same.graph), 0, block)!),
            );
            for (const [b, block] of blocks.entries()) {
              const held = Math.min(PAGE_SLOTS, texts.positions[0] - block * PAGE_SLOTS);
              const own = (all: Uint8Array) => all.subarray(b * size, b * size + (held * size) / PAGE_SLOTS);
              // Keys are turned by each device's own sines.
              if (part === "values") expectSame(own(bytes), own(wanted));
            }
            await allocation.writePages(place, pages(2), bytes);
            expectSame(await allocation.readPages(place, pages(2)), bytes);
            expect((await allocation.readPages(place, [])).length).toBe(0);
          }
        });
        const found = [await alone(texts, 2, 5, 31), await alone(texts, 2, 1, 31)];
        expect(found).toEqual([await alone(texts, 0, 5, 31), await alone(texts, 0, 1, 31)]);
      }),
  ],
  [
    "texts, positions and pages that are not there are refused, and nothing runs",
    (device, kv, turned) =>
      allocated(device, kv, turned, async ({ allocation, graph }) => {
        const run = { text: 0, position: 0, ids: new Uint32Array(1), outputs: 1 };
        const refused = async (runs: (typeof run)[], what: string) =>
          expect(allocation.run({ runs })).rejects.toThrow(what);
        const last = Math.ceil(CONTEXT / PAGE_SLOTS) * PAGE_SLOTS;
        await refused([{ ...run, text: TEXTS }], `text is ${TEXTS}; allowed: integers 0 to 2`);
        await refused([run, run], "one run of each text");
        for (const position of [-1, 0.5, Number.NaN, last])
          await refused([{ ...run, position }], "position of a run");
        await refused([{ ...run, ids: new Uint32Array(0), outputs: 0 }], "tokens of a run");
        await refused([{ ...run, outputs: 2 }], "outputs of a run");
        await refused([{ ...run, ids: new Uint32Array(CHUNK + 1) }], "tokens of a step");
        const [pool] = graph.pools;
        expect(() => allocation.setPages(pool, 0, 0, [pool.pages])).toThrow("page");
        expect(() => allocation.setPages(pool, 0, graph.blocks, [0])).toThrow("block of a text");
        expect(() => allocation.setPages(pool, TEXTS, 0, [0])).toThrow("text");
        await expect(allocation.copyPage(pool, 0, pool.pages)).rejects.toThrow("page");
        const place = { cache: graph.caches[0], part: "keys", kvHead: 0 } as const;
        const bytes = new Uint8Array(9);
        await expect(allocation.readPages({ ...place, kvHead: KV_HEADS }, [0])).rejects.toThrow("KV head");
        await expect(allocation.readPages(place, [0, pool.pages])).rejects.toThrow("page");
        await expect(allocation.writePages(place, [-1], bytes)).rejects.toThrow("page");
        await expect(allocation.writePages(place, [0, 1], bytes)).rejects.toThrow("bytes of pages is 9");
      }),
  ],
];

async function allocated(
  device: Device,
  kv: string,
  turned: number | undefined,
  body: (texts: PagedTexts) => Promise<void>,
): Promise<void> {
  const graph = pageGraph(kv, TEXTS, turned);
  const allocation = await device.allocate(graph);
  try {
    let seed = 1;
    for (const weight of graph.weights)
      await allocation.load(weight, randomTensor(weight.name, "f32", weight.rows, weight.cols, seed++));
    await body(new PagedTexts(allocation, graph));
  } finally {
    await allocation.close();
  }
}
