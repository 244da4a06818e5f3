// @ts-check
/**
 * What a step costs by its rows: one, few and many, of one text or of as many texts, behind nothing and behind long
 * contexts; random weights in a published shape, times by the GPU's own clock.
 *
 *     node bench/rows.js [--shape llama-3.1-8b] [--layers N] [--kv int4] [--rows 1,2,4,8,16,32] [--depths 0,32768]
 *                        [--same] [--sample] [--profile] [--json FILE]
 *
 * --same: all rows of a step belong to one text, as when guessed tokens are checked. --sample: the likeliest token of each
 * text is chosen, too.
 * Pages are given out in a scattered order, and hold zeros: time does not depend on what they hold.
 */
import { appendFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { kvCodec } from "../dist/cache/codecs.js";
import { packedBlocks, recentOf } from "../dist/cache/layers.js";
import { dawnGpu } from "../dist/device/webgpu/dawn.js";
import { webgpuDevice } from "../dist/device/webgpu/webgpu.js";
import { openModel } from "../dist/model/model.js";
import { syntheticCheckpoint } from "../dist/model/synthetic.js";

const { values: options } = parseArgs({
  options: {
    shape: { type: "string", default: "llama-3.1-8b" },
    layers: { type: "string" },
    vocab: { type: "string" },
    kv: { type: "string", default: "int4" },
    rows: { type: "string", default: "1,2,4,8,16,32" },
    depths: { type: "string", default: "0" },
    few: { type: "string" },
    batch: { type: "string" },
    short: { type: "string" },
    same: { type: "boolean", default: false },
    sample: { type: "boolean", default: false },
    profile: { type: "boolean", default: false },
    json: { type: "string" },
  },
});
const GREEDY = { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0, draw: 0 };
const number = (/** @type {string | undefined} */ text) => (text === undefined ? undefined : Number(text));
const counts = options.rows.split(",").map(Number);
const depths = options.depths.split(",").map(Number);

const api = await dawnGpu({}, ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia", "disable_workgroup_init"]);
const device = await webgpuDevice(api, {
  traits: { few: number(options.few), batch: number(options.batch), short: number(options.short) },
});
const deepest = Math.max(...depths);
const most = Math.max(...counts);
const texts = options.same ? 1 : Math.min(most, 64);
const synthetic = { layers: number(options.layers), vocab: number(options.vocab), context: deepest + most };
const model = await openModel(await syntheticCheckpoint(options.shape, synthetic));
const context = Math.ceil((deepest + most + 1) / 32) * 32;
const graph = model.record({
  ...{ context, texts, cacheTokens: texts * context, codec: kvCodec(options.kv) },
  ...{ maxTokens: Math.max(512, most), maxOutputs: Math.max(1, texts) },
});
const allocation = await device.allocate(graph);
for (const weight of graph.weights) await allocation.load(weight, model.tensor(weight));
for (const pool of graph.pools) {
  const stride = [7, 5, 3].find((step) => pool.pages % step !== 0) ?? 1;
  for (let text = 0; text < texts; text++) {
    const pages = Array.from(
      { length: graph.blocks },
      (_, block) => ((text * graph.blocks + block) * stride) % pool.pages,
    );
    allocation.setPages(pool, text, 0, pages);
  }
}

/** What of a text of `depth` tokens is packed, and what the step packs. */
const recent = recentOf(graph);
function packed(/** @type {number} */ depth, /** @type {number} */ tokens) {
  if (!recent) return null;
  const [before, after] = [depth, depth + tokens].map((count) => packedBlocks(recent.tokens, count));
  const first = Math.max(before, recent.first);
  return { blocks: before, pack: Array.from({ length: Math.max(0, after - first) }, (_, i) => first + i) };
}

for (const depth of depths)
  for (const count of counts) {
    const split = options.same || count > texts ? 1 : count;
    const runs = Array.from({ length: split }, (_, text) => ({
      ...{ text, position: depth, outputs: split === 1 && count > 1 && !options.same ? 0 : 1 },
      ids: Uint32Array.from({ length: count / split }, (_, i) => 100 + text + i),
      packed: packed(depth, count / split),
      sampling: options.sample ? GREEDY : null,
    }));
    const profile = await allocation.profile?.({ runs });
    if (!profile) continue;
    const perSecond = (count * 1e6) / profile.us;
    const row = {
      ...{
        op: "step",
        shape: options.shape,
        layers: model.config.layers.length,
        kv: options.kv,
        depth,
        rows: count,
      },
      ...{
        texts: split,
        us: Math.round(profile.us),
        rowsPerSecond: Math.round(perSecond),
        adapter: device.description,
      },
      date: new Date().toISOString().slice(0, 10),
    };
    console.log(
      `${options.shape} ${options.kv} depth ${depth} rows ${count} texts ${split}: ${row.us} us, ${row.rowsPerSecond} rows/s`,
    );
    if (options.json) appendFileSync(options.json, `${JSON.stringify(row)}\n`);
    if (options.profile) {
      /** @type {Map<string, { us: number, count: number, bytes: number }>} */
      const byLabel = new Map();
      for (const { label, us, bytes } of profile.dispatches) {
        const sum = byLabel.get(label) ?? { us: 0, count: 0, bytes: 0 };
        byLabel.set(label, { us: sum.us + us, count: sum.count + 1, bytes: sum.bytes + bytes });
      }
      for (const [label, { us, count, bytes }] of [...byLabel].sort((a, b) => b[1].us - a[1].us))
        console.log(
          `    ${label.padEnd(14)} ${String(count).padStart(4)}  ${us.toFixed(0).padStart(7)} us  ${(bytes / us / 1e6).toFixed(2)} TB/s`,
        );
    }
  }
await allocation.close();
