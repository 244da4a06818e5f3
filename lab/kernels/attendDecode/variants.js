/**
 * Variants of the attention kernels against the shipped ones, in one run: other values, other pieces of text, parts left out,
 * one of the two dispatches. `node lab/kernels/attendDecode/variants.js --variants JSON [--depths ...] [--prompts ...]
 * [--formats rq4,int4] [--toggles disable_robustness] [--out FILE]`, after `npm run build`, on a GPU; rows of JSON, one a
 * measurement. Nothing is checked here: `nibble bench attend` does that, and times what ships.
 * Caches are filled by appendKv; times are medians of passes of many dependent dispatches, over caches that do not fit the
 * second-level cache together.
 */
import { appendFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { KERNELS } from "../../../dist/device/webgpu/kernels.js";
import {
  appendOf,
  attendOf,
  batchAt,
  buffers,
  encode,
  free,
  gpu,
  layer,
  make,
  noise,
  open,
  prepare,
  traits,
  upload,
  writeStep,
} from "./layer.js";

const { values: options } = parseArgs({
  options: {
    out: { type: "string" },
    toggles: { type: "string", default: "" },
    /** A JSON list of [name, kernel, values] whose times are compared with the shipped ones. */
    variants: { type: "string", default: "[]" },
    depths: { type: "string", default: "1024,4096,16384,65536,131072" },
    prompts: { type: "string", default: "512,16384,65536" },
    formats: { type: "string", default: "rq4,int4,f16" },
  },
});

await open(options.toggles.split(",").filter(Boolean));
const { device } = gpu;

const date = new Date().toISOString().slice(0, 10);
/** @param {Record<string, unknown>} row */
function report(row) {
  const line = JSON.stringify({ ...row, adapter: gpu.name, toggles: options.toggles || undefined, date });
  if (options.out) appendFileSync(options.out, `${line}\n`);
  console.log(line);
}

/** Median us of `dispatches` of a step, each set once a round over all copies. */
async function time(it, sets, batch) {
  const ready = [];
  writeStep(it, batch);
  for (const dispatches of sets) ready.push(await prepare(it, dispatches));
  const query = device.createQuerySet({ type: "timestamp", count: 2 });
  const resolved = device.createBuffer({ size: 16, usage: 512 | 4 });
  const back = device.createBuffer({ size: 16, usage: 1 | 8 });
  const pass = async (/** @type {number} */ rounds) => {
    const encoder = device.createCommandEncoder();
    const timed = encoder.beginComputePass({
      timestampWrites: { querySet: query, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
    });
    for (let i = 0; i < rounds; i++) encode(timed, ready[i % ready.length], batch);
    timed.end();
    encoder.resolveQuerySet(query, 0, 2, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, back, 0, 16);
    device.queue.submit([encoder.finish()]);
    await back.mapAsync(1);
    const [begin, end] = new BigUint64Array(back.getMappedRange().slice(0));
    back.unmap();
    return Number(end - begin) / 1000 / rounds;
  };
  const first = await pass(1);
  const rounds = Math.max(2, Math.min(200, Math.ceil(20_000 / first)));
  // Clocks rise while the GPU is busy.
  const until = Date.now() + 250;
  while (Date.now() < until) await pass(rounds);
  const times = [];
  for (let i = 0; i < 9; i++) times.push(await pass(rounds));
  gpu.check();
  return times.sort((a, b) => a - b)[4];
}

/** @param {ReturnType<typeof layer>} it */
async function fill(it) {
  const { kvHeads, headDim } = it.shape;
  const rows = noise(1024 * kvHeads * headDim, 3);
  const keys = upload("k", rows);
  const values = upload("v", rows.slice().reverse());
  for (let copy = 0; copy < it.caches.length; copy++) {
    const ready = await prepare(it, [appendOf(it, copy, keys, values)]);
    for (const { position, tokens } of it.runs) {
      const batch = batchAt(it, position, tokens);
      writeStep(it, batch);
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      encode(pass, ready, batch);
      pass.end();
      device.queue.submit([encoder.finish()]);
    }
  }
}

/**
 * name; kernel; its values that differ; pieces of its text to replace; options of attendDispatches.
 * @type {[string, string, Record<string, any>, [string, string][]?, Record<string, any>?][]}
 */
const variants = [["", "", {}], ...JSON.parse(options.variants)];

/** The kernels' texts as they are shipped, and while a variant is compiled as it wants them. */
const shipped = new Map(Object.entries(KERNELS).map(([name, { text }]) => [name, text]));

/** Dispatches with a variant's values. @param {any[]} dispatches @param {typeof variants[number]} variant */
function varied(all, [name, kernel, values, patches = [], more = {}]) {
  const dispatches = more.only === undefined ? all : [all[more.only]];
  if (!shipped.has(kernel)) return dispatches;
  const source = /** @type {any} */ (KERNELS)[kernel];
  source.text = shipped.get(kernel);
  for (const [before, after] of patches) {
    if (!source.text.includes(before)) throw new Error(`${name}: no ${before}`);
    source.text = source.text.replaceAll(before, after);
  }
  return dispatches.map((d) =>
    d.kernel.kernel !== kernel
      ? d
      : {
          ...d,
          // Pipelines are known by their values and libraries: a name makes the patched one another.
          kernel: {
            ...d.kernel,
            values: { ...d.kernel.values, ...values },
            libs: { ...d.kernel.libs, variant: name },
          },
        },
  );
}

async function times() {
  const heads = 64;
  const kvHeads = 8;
  const headDim = 128;
  const name = `${heads}/${kvHeads} heads of ${headDim}`;
  for (const format of options.formats.split(",")) {
    for (const tokens of options.depths.split(",").filter(Boolean).map(Number)) {
      const mark = buffers.length;
      const bytes = 2 * kvHeads * headDim * tokens * { f16: 2, int4: 0.625, rq4: 33 / 64 }[format];
      const copies = Math.max(1, Math.min(24, Math.ceil(150e6 / bytes)));
      const it = layer({ format, heads, kvHeads, headDim, tokens }, copies);
      await fill(it);
      const queries = upload("q", noise(heads * headDim, 5));
      const out = make("out", heads * headDim * 4);
      for (const variant of variants) {
        const more = {
          mode: "decode",
          form: "q8",
          rotated: true,
          queries,
          out,
          ...variant[4],
        };
        const first = attendOf(it, 0, more);
        if (
          variant[1] !== "" &&
          variant[1] !== "options" &&
          !first.some((d) => d.kernel.kernel === variant[1])
        )
          continue;
        const sets = it.caches.map((_, copy) => varied(attendOf(it, copy, more), variant));
        try {
          const us = await time(it, sets, batchAt(it, tokens - 1, 1));
          report({
            op: "attendDecode",
            shape: name,
            kv: format,
            tokens,
            variant: variant[0] || undefined,
            us: Number(us.toFixed(2)),
            gbps: Math.round(bytes / us / 1000),
          });
        } catch (error) {
          console.log("FAILED", variant[0], String(error).slice(0, 300));
        }
      }
      free(mark);
    }
    for (const tokens of options.prompts.split(",").filter(Boolean).map(Number)) {
      const mark = buffers.length;
      const count = 512;
      const it = layer({ format, heads, kvHeads, headDim, tokens });
      await fill(it);
      const queries = upload("q", noise(count * heads * headDim, 5));
      const out = make("out", count * heads * headDim * 4);
      for (const variant of variants) {
        const more = {
          mode: "prompt",
          maxSingles: 0,
          form: traits.matrices ? "f16" : "f32",
          queries,
          out,
          rotated: true,
        };
        const dispatches = attendOf(it, 0, { ...more, ...variant[4] });
        if (variant[1] !== "" && variant[1] !== "options" && dispatches[0].kernel.kernel !== variant[1])
          continue;
        if (variant[1] === "options") continue;
        const changed = varied(dispatches, variant).map((d) => {
          if (d.label !== "attendPrompt") return d;
          const { ROW_BLOCKS } = d.kernel.values;
          return {
            ...d,
            workgroups: () => [
              Math.ceil((count * heads) / kvHeads / (Number(ROW_BLOCKS ?? 4) * 16)),
              kvHeads,
              1,
            ],
          };
        });
        try {
          const us = await time(it, [changed], batchAt(it, tokens - count, count));
          const seen = count * tokens - (count * (count - 1)) / 2;
          const tflops = (4 * seen * heads * headDim) / us / 1e6;
          report({
            op: "attendPrompt",
            shape: name,
            kv: format,
            tokens,
            queries: count,
            variant: variant[0] || undefined,
            us: Number(us.toFixed(1)),
            tflops: Number(tflops.toFixed(1)),
          });
        } catch (error) {
          console.log("FAILED", variant[0], String(error).slice(0, 300));
        }
      }
      free(mark);
    }
  }
}

await times();
gpu.close();
