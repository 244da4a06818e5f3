// @ts-check
/**
 * Times one layer's attention of one token on a GPU, variants in turn in one process, each first held against float64:
 *   node lab/kernels/attendDecode/variants.js 'kv4' 'kv4 {"workgroups":1056}' 'rq4'
 *     [--tokens 131072] [--shape 64/8x128] [--queries 1]
 * A variant is a KV format and what of AttendOptions (src/device/webgpu/attend-options.ts) differs. `npm run build` first.
 */
import { parseArgs } from "node:util";
import { kvCodec } from "../../../dist/cache/codecs.js";
import { openAttendTimer } from "../../../dist/study/attend/open-timer.js";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tokens: { type: "string", default: "131072" },
    shape: { type: "string", default: "64/8x128" },
    queries: { type: "string", default: "1" },
    adapter: { type: "string" },
  },
});
const [heads, kvHeads, headDim] = options.shape.split(/[/x]/).map(Number);
const queries = Number(options.queries);
const timer = await openAttendTimer({ device: "gpu", adapter: options.adapter });
console.log(timer.adapter);
for (const tokens of options.tokens.split(",").map(Number)) {
  const pool = { id: 0, window: null, pages: Math.ceil(tokens / 32) };
  /** Variants of a format share its caches. @type {Map<string, import("../../../dist/device/contract.js").Cache>} */
  const caches = new Map();
  const cacheOf = (/** @type {string} */ format) => {
    const codec = kvCodec(format);
    const made = caches.get(format) ?? { id: 0, layer: 0, codec, kvHeads, headDim, turned: 0, pool };
    caches.set(format, made);
    return made;
  };
  const jobs = positionals.map((variant) => {
    const [format] = variant.split(" ", 1);
    return { cache: cacheOf(format), heads, tuning: JSON.parse(variant.slice(format.length) || "{}") };
  });
  const times = await timer.time(jobs, { queries, position: tokens - queries });
  times.forEach(({ us, error }, i) => {
    console.log(`${tokens} ${positionals[i]}: ${us.toFixed(1)} us, error ${error.toPrecision(2)}`);
  });
}
await timer.close();
