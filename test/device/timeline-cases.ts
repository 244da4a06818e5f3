/**
 * What any device has to hold with several timelines: steps of one change nothing of another, and a copied prefix is as
 * good as a processed one. Both to the last bit, as the same kernels run over the same bytes.
 */
import { expect } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import { cacheCapacity } from "../../src/cache/layers.ts";
import type { Allocation, Device, Graph } from "../../src/device/contract.ts";
import { Recorder } from "../../src/device/recorder.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { ropeFrequencies } from "../../src/model/rope.ts";
import { randomTensor } from "./random-tensor.ts";

const VOCAB = 97;
const HEADS = 4;
const KV_HEADS = 2;
const HEAD_DIM = 64;
const CHUNK = 40;
const CONTEXT = 200;
/** A ring of 96 slots. */
const WINDOW = 20;
const TIMELINES = 3;

/** One full and one sliding layer over the same random keys and values. */
export function timelineGraph(kv: string, timelines = TIMELINES): Graph {
  const op = new Recorder(CHUNK, 1);
  const input = (name: string, cols: number) => op.embed(op.weight(name, "matrix", "f32", VOCAB, cols), 20);
  const rope = op.ropeTable(ropeFrequencies(10_000, HEAD_DIM));
  const queries = op.rope(input("queries", HEADS * HEAD_DIM), HEADS, rope);
  const keys = op.rope(input("keys", KV_HEADS * HEAD_DIM), KV_HEADS, rope);
  const values = input("values", KV_HEADS * HEAD_DIM);
  const attended = [null, WINDOW].map((window, layer) => {
    const capacity = cacheCapacity(CONTEXT, CHUNK, window);
    const options = { layer, codec: kvCodec(kv), kvHeads: KV_HEADS, headDim: HEAD_DIM, capacity, window };
    const cache = op.cache(options);
    op.appendKv(cache, keys, values);
    return op.attend(cache, queries, { heads: HEADS, scale: 1 / Math.sqrt(HEAD_DIM) });
  });
  return op.finish(op.takeOutputs(op.add(attended[0], attended[1])), { timelines });
}

/** A timeline that is run chunk by chunk. */
class Text {
  #position = 0;

  constructor(
    readonly allocation: Allocation,
    readonly graph: Graph,
    readonly timeline: number,
    readonly seed: number,
  ) {}

  /** Runs `tokens` more; gives what the last of them attends to. */
  async run(tokens: number): Promise<Float32Array> {
    const position = this.#position;
    const ids = Uint32Array.from({ length: tokens }, (_, i) => ((position + i + 1) * this.seed) % VOCAB);
    await this.allocation.run({ ids, position, outputs: 1, timeline: this.timeline });
    this.#position += tokens;
    return this.allocation.read(this.graph.logits, 0, 1);
  }

  /** Goes on in another timeline, and with other tokens, after a copy. */
  continued(timeline: number, seed: number): Text {
    const text = new Text(this.allocation, this.graph, timeline, seed);
    text.#position = this.#position;
    return text;
  }
}

export const timelineCases: readonly (readonly [string, (device: Device, kv: string) => Promise<void>])[] = [
  [
    "steps of one change nothing of another",
    (device, kv) =>
      allocated(device, kv, async (text) => {
        const steps = [33, 1, CHUNK, 1, 1, CHUNK, 7];
        const alone: Float32Array[][] = [];
        for (let timeline = 0; timeline < TIMELINES; timeline++) {
          const one = text(0, 31 + timeline);
          alone.push([]);
          for (const tokens of steps) alone[timeline].push(await one.run(tokens));
        }
        const all = alone.map((_, timeline) => text(timeline, 31 + timeline));
        for (let i = 0; i < steps.length; i++)
          for (const timeline of [2, 0, 1])
            expect(await all[timeline].run(steps[i])).toEqual(alone[timeline][i]);
      }),
  ],
  [
    "a copied prefix is as good as a processed one, and both go on apart",
    (device, kv) =>
      // Within the first blocks, at a block's end, and where the ring has gone around.
      allocated(device, kv, async (text) => {
        for (const prefix of [[7], [CHUNK, 24], [CHUNK, CHUNK, CHUNK, 25]]) {
          const first = text(0, 31);
          for (const tokens of prefix) await first.run(tokens);
          const tokens = prefix.reduce((a, b) => a + b, 0);
          await first.allocation.copyCache(0, 2, tokens);
          const [other, same] = [first.continued(2, 5), first.continued(0, 31)];
          const found = [await other.run(3), await other.run(1)];
          const kept = await same.run(2);

          const again = text(1, 31);
          for (const part of prefix) await again.run(part);
          expect(kept).toEqual(await again.continued(1, 31).run(2));
          const anew = again.continued(1, 5);
          expect(found).toEqual([await anew.run(3), await anew.run(1)]);
        }
      }),
  ],
  [
    "what a cache holds can be read in the codec's bytes, the reference's own, and written elsewhere",
    (device, kv) =>
      allocated(device, kv, async (text) => {
        const first = text(0, 31);
        for (const tokens of [CHUNK, CHUNK, 9]) await first.run(tokens);
        const { allocation, graph } = first;
        await allocated(referenceDevice(), kv, async (reference) => {
          const same = reference(0, 31);
          for (const tokens of [CHUNK, CHUNK, 9]) await same.run(tokens);
          for (const [i, cache] of graph.caches.entries()) {
            const blocks = cache.capacity / 32;
            for (const part of ["keys", "values"] as const)
              for (let kvHead = 0; kvHead < KV_HEADS; kvHead++) {
                const range = { cache, part, kvHead, first: 0, slots: cache.capacity };
                const bytes = await allocation.readCache(range);
                const vectorBytes = cache.codec.vectorBytes(HEAD_DIM);
                expect(bytes.length).toBe(cache.capacity * vectorBytes);
                // Keys are turned by each device's own sines.
                const held = bytes.subarray(0, (2 * CHUNK + 9) * vectorBytes);
                const wanted = await same.allocation.readCache({ ...range, cache: same.graph.caches[i] });
                if (part === "values") expect(held).toEqual(wanted.subarray(0, held.length));
                // In two pieces, the second of one block.
                const last = (blocks - 1) * 32;
                const end = bytes.subarray(last * vectorBytes);
                const there = { ...range, timeline: 2 };
                await allocation.writeCache({ ...there, slots: last }, bytes.subarray(0, last * vectorBytes));
                await allocation.writeCache({ ...there, first: last, slots: 32 }, end);
                expect(await allocation.readCache({ ...there, first: last, slots: 32 })).toEqual(end);
              }
          }
        });
        const written = first.continued(2, 31);
        const found = [await written.run(5), await written.run(1)];
        expect(found).toEqual([await first.run(5), await first.run(1)]);
        const [cache] = graph.caches;
        const bad = { cache, part: "keys", kvHead: 0, first: 0, slots: 33 } as const;
        await expect(allocation.readCache(bad)).rejects.toThrow("whole blocks of 32");
        await expect(allocation.readCache({ ...bad, slots: 32, kvHead: KV_HEADS })).rejects.toThrow(
          "KV head",
        );
        const beyond = { ...bad, first: cache.capacity, slots: 32 };
        await expect(allocation.writeCache(beyond, new Uint8Array(9))).rejects.toThrow("token slots");
      }),
  ],
  [
    "a timeline that is not there is refused",
    (device, kv) =>
      allocated(device, kv, async (text) => {
        await expect(text(TIMELINES, 31).run(1)).rejects.toThrow(`timeline is ${TIMELINES}; allowed: 0 to 2`);
        const { allocation } = text(0, 31);
        await expect(allocation.copyCache(0, TIMELINES, 1)).rejects.toThrow("timeline");
        await expect(allocation.copyCache(1, 1, 1)).rejects.toThrow("another than 1");
      }),
  ],
];

async function allocated(
  device: Device,
  kv: string,
  body: (text: (timeline: number, seed: number) => Text) => Promise<void>,
): Promise<void> {
  const graph = timelineGraph(kv);
  const allocation = await device.allocate(graph);
  try {
    let seed = 1;
    for (const weight of graph.weights)
      await allocation.load(weight, randomTensor(weight.name, "f32", weight.rows, weight.cols, seed++));
    await body((timeline, textSeed) => new Text(allocation, graph, timeline, textSeed));
  } finally {
    await allocation.close();
  }
}
