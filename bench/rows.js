// @ts-check
/**
 * The cost of a step by its number of rows: one, few and many, of one text or of as many texts, with short and long
 * contexts; random weights in a published shape, times by the GPU's own clock.
 *
 *     node bench/rows.js [--shape llama-3.1-8b] [--layers N] [--kv int4] [--rows 1,2,4,8,16,32] [--depths 0,32768]
 *                        [--same] [--sample] [--generate N] [--profile] [--json FILE]
 *
 * --kv: as on the command line, also by layer ("kv4+apart"). --same: all rows of a step belong to one text, as when
 * guessed tokens are checked. --sample: the most likely token of each text is chosen, too. --generate: also N tokens of
 * one text by the host's clock, each chosen on the GPU from the previous one, four steps ahead, as in a generation.
 * Pages are assigned in a scattered order and hold zeros: time does not depend on their contents, so no context is
 * filled.
 */
import { appendFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { layerFormats } from "../dist/cache/format-layers.js";
import { packedBlocks, recentOf } from "../dist/cache/layers.js";
import { CHOSEN } from "../dist/device/contract.js";
import { dawnGpu } from "../dist/device/webgpu/dawn.js";
import { webgpuDevice } from "../dist/device/webgpu/webgpu.js";
import { codecsOf } from "../dist/engine/plan.js";
import { rowBytes } from "../dist/format/tensor.js";
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
    generate: { type: "string", default: "0" },
    profile: { type: "boolean", default: false },
    json: { type: "string" },
  },
});
const WARM_UP = 16;
const AHEAD = 4;
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
const generated = Number(options.generate);
const texts = options.same ? 1 : Math.min(most, 64);
const after = Math.max(most, generated + WARM_UP);
const synthetic = { layers: number(options.layers), vocab: number(options.vocab), context: deepest + after };
const model = await openModel(await syntheticCheckpoint(options.shape, synthetic));
const context = Math.ceil((deepest + after + 1) / 32) * 32;
const oneVector = device.oneVector && !layerFormats(options.kv).apart;
const graph = model.record({
  ...{ context, texts, cacheTokens: texts * context, codec: codecsOf(model, options.kv), oneVector },
  ...{ maxTokens: Math.max(512, most), maxOutputs: Math.max(1, texts), stateSlots: 2 * texts },
});
const allocation = await device.allocate(graph);
const waiting = [...graph.weights];
await Promise.all(
  Array.from({ length: device.loads ?? 1 }, async () => {
    for (let weight = waiting.shift(); weight; weight = waiting.shift())
      await allocation.load(weight, model.tensor(weight));
  }),
);
const { caches } = allocation.footprint;
const cacheBytes = caches.reduce((sum, bytes) => sum + bytes, 0);
console.log(
  `${options.shape} ${options.kv}: ${model.config.layers.length} layers, caches ${(cacheBytes / 2 ** 30).toFixed(3)} GiB for ${texts * context} tokens, loaded after ${(performance.now() / 1000).toFixed(1)} s`,
);
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

/** The packed pages of a text of `depth` tokens, and those that the step packs. */
const recent = recentOf(graph);
function packed(/** @type {number} */ depth, /** @type {number} */ tokens) {
  if (!recent) return null;
  const [before, after] = [depth, depth + tokens].map((count) => packedBlocks(recent.tokens, count));
  const first = Math.max(before, recent.firstPages);
  return { blocks: before, pack: Array.from({ length: Math.max(0, after - first) }, (_, i) => first + i) };
}

/** A text has two slots; after position 0 its states are read from one of them and written to the other. */
function state(/** @type {number} */ text, /** @type {number} */ depth, turn = 0) {
  if (graph.states.length === 0) return null;
  return { from: depth > 0 ? 2 * text + turn : null, to: 2 * text + 1 - turn };
}

/** Milliseconds of `count` tokens, none of which the host knows when its step is submitted. */
async function generate(/** @type {number} */ depth, /** @type {number} */ count) {
  const started = performance.now();
  /** @type {Promise<unknown>[]} */
  const ahead = [];
  for (let i = 0; i < count; i++) {
    const position = depth + i;
    const run = {
      ...{ text: 0, position, outputs: 1, ids: Uint32Array.of(i === 0 ? 100 : CHOSEN) },
      ...{ state: state(0, position, i % 2), packed: packed(position, 1), sampling: GREEDY },
    };
    const { chosen } = await allocation.run({ runs: [run] });
    ahead.push(chosen);
    if (ahead.length >= AHEAD) await ahead.shift();
  }
  await Promise.all(ahead);
  return performance.now() - started;
}

/** Bytes of the file that hold the experts that one token takes. */
const chosenBytes = graph.ops.reduce((sum, op) => {
  if (op.op !== "expertMatmul") return sum;
  const { rows, cols, type } = op.weight;
  const { experts, picks } = op;
  return sum + (rows * rowBytes(type, cols) * (picks.cols / 2)) / experts;
}, 0);

for (const depth of depths) {
  if (generated > 0) {
    await generate(depth, WARM_UP);
    const ms = await generate(depth, generated);
    const row = {
      ...{ op: "generate", shape: options.shape, layers: model.config.layers.length, kv: options.kv, depth },
      ...{ tokens: generated, tokensPerSecond: Number(((generated * 1000) / ms).toFixed(1)) },
      ...{ adapter: device.description, date: new Date().toISOString().slice(0, 10) },
    };
    console.log(
      `${options.shape} ${options.kv} depth ${depth}: ${row.tokensPerSecond} tokens/s by the host's clock`,
    );
    if (options.json) appendFileSync(options.json, `${JSON.stringify(row)}\n`);
  }
  for (const count of counts) {
    const split = options.same || count > texts ? 1 : count;
    const runs = Array.from({ length: split }, (_, text) => ({
      ...{ text, position: depth, outputs: split === 1 && count > 1 && !options.same ? 0 : 1 },
      ids: Uint32Array.from({ length: count / split }, (_, i) => 100 + text + i),
      state: state(text, depth),
      packed: packed(depth, count / split),
      sampling: options.sample ? GREEDY : null,
    }));
    const profile = await allocation.profile?.({ runs });
    if (!profile) continue;
    const perSecond = (count * 1e6) / profile.us;
    const moved = profile.dispatches.reduce((sum, { bytes }) => sum + bytes, 0);
    const ofReadRate = (moved * 1e6) / profile.us / profile.readBytesPerSecond;
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
        megabytes: Math.round(moved / 1e6),
        ofReadRate: Number(ofReadRate.toFixed(3)),
        adapter: device.description,
      },
      date: new Date().toISOString().slice(0, 10),
    };
    console.log(
      `${options.shape} ${options.kv} depth ${depth} rows ${count} texts ${split}: ${row.us} us, ${row.rowsPerSecond} rows/s, ${row.megabytes} MB, ${(ofReadRate * 100).toFixed(0)} % of the read rate of ${(profile.readBytesPerSecond / 1e12).toFixed(2)} TB/s`,
    );
    const experts = profile.dispatches.filter(({ label }) => label.startsWith("expertMatmul"));
    if (count === 1 && experts.length > 0) {
      const read = experts.reduce((sum, { bytes }) => sum + bytes, 0);
      const us = experts.reduce((sum, { us }) => sum + us, 0);
      // What a kernel reads takes at least as long as at the read rate: by its time it cannot have read more.
      console.log(
        `    experts: ${(read / chosenBytes).toFixed(3)} of the chosen ones' bytes (${(chosenBytes / 1e6).toFixed(0)} MB), by their time at most ${((us * profile.readBytesPerSecond) / 1e6 / chosenBytes).toFixed(2)}`,
      );
    }
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
}
await allocation.close();
