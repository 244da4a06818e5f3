// @ts-check
/**
 * Matrix products with chosen experts on the CPU, on one thread: the panels that they read (counted by the kernel), and
 * their time relative to a dense matrix of the same size in bytes, for one token and for prompts. Both run in turn, so
 * that a busy machine slows both equally.
 *
 *     node bench/experts.js [--types q4_0,q4_k] [--experts 128] [--picks 8] [--shape 768x2048] [--tokens 1,4,64,128]
 *         [--rounds 30] [--json FILE]
 *
 * --shape: rows and columns of one expert. A prompt's picks are random; its dense product has the same number of rows
 * of weights, each with the same number of vectors. Run `npm run build` first.
 */
import { appendFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { compileKernels } from "../dist/device/wasm/module.js";
import { MATMUL_SCRATCH_BYTES, packedBytes, quantizedBytes, TYPE_IDS } from "../dist/device/wasm/packing.js";
import { rowBytes } from "../dist/format/tensor.js";

const { values: options } = parseArgs({
  options: {
    types: { type: "string", default: "q4_0,q4_k" },
    experts: { type: "string", default: "128" },
    picks: { type: "string", default: "8" },
    shape: { type: "string", default: "768x2048" },
    tokens: { type: "string", default: "1,4,64,128" },
    rounds: { type: "string", default: "30" },
    json: { type: "string" },
  },
});
const experts = Number(options.experts);
const k = Number(options.picks);
const [rows, cols] = options.shape.split("x").map(Number);
const counts = options.tokens.split(",").map(Number);
const most = Math.max(...counts);

for (const type of /** @type {(keyof typeof TYPE_IDS)[]} */ (options.types.split(","))) {
  const id = TYPE_IDS[type];
  const panel = packedBytes(type, 8, cols);
  const bytes =
    packedBytes(type, experts * rows, cols) + most * (quantizedBytes(cols) + k * rows * 8) + 2 ** 21;
  const pages = Math.ceil(bytes / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const { module, relaxed } = await compileKernels();
  const kernels = /** @type {any} */ (new WebAssembly.Instance(module, { env: { memory } }).exports);
  let end = 65536;
  const place = (/** @type {number} */ size) => {
    const at = end;
    end = Math.ceil((end + size) / 64) * 64;
    return at;
  };
  const scratch = place(MATMUL_SCRATCH_BYTES);
  const w = place(packedBytes(type, experts * rows, cols));
  const source = place(8 * rowBytes(type, cols));
  // If a type has an f16 scale, it is small and positive.
  new Uint16Array(memory.buffer, source, 4 * rowBytes(type, cols)).forEach((_, i, file) => {
    file[i] = 0x2400 + ((i * 40503) & 0x3ff);
  });
  for (let row = 0; row < experts * rows; row += 8)
    kernels.repackRows(id, source, w, experts * rows, cols, row, 8);
  const x = place(most * cols * 4);
  new Float32Array(memory.buffer, x, most * cols).forEach((_, i, values) => {
    values[i] = Math.sin(i * 1.7);
  });
  const q = place(most * quantizedBytes(cols));
  kernels.quantizeRows(x, q, cols, 0, most);
  const y = place(most * k * rows * 4);
  const picks = place(most * k * 8);
  const order = place(most * k * 4);
  const starts = place((experts + 1) * 4);

  for (const tokens of counts) {
    const ratios = [];
    let read = 0;
    let chosen = 0;
    let times = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
    for (let round = -3; round < Number(options.rounds); round++) {
      // Different experts each time, so that no cache holds them.
      const ids = Array.from({ length: tokens }, () => {
        const left = Array.from({ length: experts }, (_, e) => e);
        return Array.from({ length: k }, () => left.splice(Math.floor(Math.random() * left.length), 1)[0]);
      });
      const all = ids.flatMap((each) => [...each, ...each]);
      new Float32Array(memory.buffer, picks, all.length).set(all);
      chosen = new Set(ids.flat()).size;
      let started = performance.now();
      kernels.groupPicks(order, starts, picks, experts, k, tokens);
      const units = kernels.expertUnits(starts, experts, rows);
      read = kernels.expertMatmul(
        y,
        x,
        q,
        w,
        id,
        rows,
        cols,
        0,
        experts,
        k,
        order,
        starts,
        0,
        units,
        scratch,
      );
      const picked = performance.now() - started;
      const vectors = Math.max(1, Math.round((tokens * k) / chosen));
      const first = Math.floor(Math.random() * (experts - chosen + 1)) * rows * (panel / 8);
      started = performance.now();
      kernels.matmul(
        y,
        x,
        q,
        w + first,
        id,
        chosen * rows,
        cols,
        vectors,
        0,
        0,
        (chosen * rows) / 8,
        scratch,
      );
      const dense = performance.now() - started;
      if (round < 0) continue;
      ratios.push(picked / dense);
      times = [Math.min(times[0], picked), Math.min(times[1], dense)];
    }
    const row = {
      ...{ op: "expertMatmul", type, experts, picks: k, shape: options.shape, tokens },
      bytesOverChosen: (read * panel) / packedBytes(type, chosen * rows, cols),
      timeOverDense: Number(ratios.sort((a, b) => a - b)[ratios.length >> 1].toFixed(3)),
      leastOverLeast: Number((times[0] / times[1]).toFixed(3)),
      leastMs: Number(times[0].toPrecision(3)),
      ...{ relaxed, cpu: cpus()[0].model, node: process.version },
      ...{ load: Number(loadavg()[0].toFixed(1)), date: new Date().toISOString().slice(0, 10) },
    };
    console.log(
      `${type} ${k} of ${experts} x ${options.shape}, ${tokens} tokens: reads ${row.bytesOverChosen} of the chosen experts' bytes, ${row.timeOverDense} times a dense matrix's time (least times: ${row.leastOverLeast}; ${row.leastMs} ms)`,
    );
    if (options.json) appendFileSync(options.json, `${JSON.stringify(row)}\n`);
  }
}
