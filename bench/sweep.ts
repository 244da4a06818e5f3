import { writeFileSync } from "node:fs";
import { dawnGpu } from "../src/device/webgpu/dawn.ts";
import { Gpu, traitsOf } from "../src/device/webgpu/gpu.ts";
import { KERNELS } from "../src/device/webgpu/kernels.ts";
import { embedDispatches } from "../src/device/webgpu/matmul.ts";
import { timePasses } from "../src/device/webgpu/timing.ts";
import { codesRowBytes, formValues, scalesRowBytes, weightForm } from "../src/device/webgpu/weights.ts";
import { packParams } from "../src/device/webgpu/wgsl.ts";
import { f16ToF32, f32ToF16 } from "../src/format/float16.ts";
import { BLOCKS } from "../src/format/tensor.ts";
import { Buffers, blockOf, errorOf, methodsOf, runDispatches } from "../test/device/webgpu/products.ts";
import { packQ8, unpackQ8 } from "../test/device/webgpu/q8.ts";
import { unpackRow } from "../test/device/webgpu/unpack.ts";

const [label, toggles, parts, outFile] = process.argv.slice(2);
const gpuObject = await dawnGpu({}, [
  "allow_unsafe_apis",
  "vulkan_enable_f16_on_nvidia",
  "disable_workgroup_init",
  ...toggles.split(",").filter(Boolean),
]);
(globalThis as any).keep = gpuObject;
const adapter = (await gpuObject.requestAdapter({ powerPreference: "high-performance" }))!;
const traits = traitsOf(adapter);
const gpu = await Gpu.open(adapter, traits, {
  maxBufferSize: 1 << 30,
  maxStorageBufferBindingSize: 1 << 30,
  maxComputeWorkgroupStorageSize: Math.min(49152, adapter.limits.maxComputeWorkgroupStorageSize),
});
console.log(label, gpu.name, JSON.stringify(traits), "wgmem", adapter.limits.maxComputeWorkgroupStorageSize);
const { device } = gpu;
const USAGE = 4 | 8 | 128;
const results: object[] = [];

if (parts.includes("check")) {
  let worst: [number, string] = [0, ""];
  const bad: string[] = [];
  for (const type of Object.keys(BLOCKS) as (keyof typeof BLOCKS)[]) {
    const unit = BLOCKS[type].elements === 1 ? 32 : BLOCKS[type].elements;
    const line: string[] = [];
    for (const [rows, blocks, tokens, bias] of [
      [[35], 3, 1, false],
      [[150, 41], 2, 3, true],
      [[70], 2, 33, false],
      [[300], 3, 200, true],
      [[256], 2, 256, false],
    ] as const) {
      let error = Number.NaN;
      try {
        error = await errorOf(gpu, traits, {
          type,
          rows: [...rows],
          cols: unit * blocks,
          tokens,
          bias,
          partRows: 128,
        });
      } catch (e) {
        console.log(type, tokens, String(e).slice(0, 600));
      }
      line.push(error.toExponential(1));
      if (!(error < 1.3e-3)) bad.push(`${type} ${tokens}: ${error}`);
      if (error > worst[0]) worst = [error, `${type} ${tokens}`];
    }
    console.log(type, line.join(" "));
  }
  for (const [type, rows, form] of [
    ["q4_0", 45, "f32"],
    ["q4_k", 288, "q8"],
    ["q6_k", 64, "q8"],
  ] as const) {
    const error = await errorOf(gpu, traits, {
      type,
      rows: [rows, rows],
      cols: 512,
      tokens: 1,
      gated: { activation: "silu", form },
    });
    console.log("gated", type, form, error.toExponential(2));
  }
  // Subnormal f16 scales.
  {
    const buffers = new Buffers();
    const { block } = blockOf({ type: "q4_0", rows: [1], cols: 32, tokens: 1 }, buffers);
    buffers.contents.get(block.parts[0].scales!.id)![0] = 37;
    const out = buffers.empty("out", 32);
    const found = new Float32Array(
      (
        await runDispatches(
          methodsOf(gpu),
          embedDispatches({ block, ids: buffers.of("ids", Uint32Array.of(0)), scale: 1, out }),
          buffers,
          out,
          { tokens: 1, position: 0, outputs: 0 },
        )
      ).buffer,
    );
    console.log(
      "subnormal scale kept:",
      found.some((v) => v !== 0),
      [...found.slice(0, 4)].map((v) => v * 2 ** 24).join(" "),
    );
  }
  console.log("worst", worst, "bad", bad.join("; ") || "none");
  results.push({ check: worst, bad });
}

function make(bytes: number): GPUBuffer {
  return device.createBuffer({ size: Math.ceil(bytes / 16) * 16, usage: USAGE });
}
const pattern = new Uint32Array(1 << 22);
for (let i = 0; i < pattern.length; i++) pattern[i] = Math.floor(Math.random() * 2 ** 32);
const scalePattern = new Uint32Array(1 << 20);
for (let i = 0; i < scalePattern.length; i++)
  scalePattern[i] = f32ToF16(0.005 + 0.01 * Math.random()) | (f32ToF16(-0.1 * Math.random()) << 16);
const halfPattern = new Uint32Array(1 << 20);
for (let i = 0; i < halfPattern.length; i++)
  halfPattern[i] = f32ToF16(0.005 + 0.01 * Math.random()) | (f32ToF16(0.005 + 0.01 * Math.random()) << 16);
function fill(buffer: GPUBuffer, words: Uint32Array): void {
  for (let at = 0; at < buffer.size; at += words.byteLength)
    device.queue.writeBuffer(
      buffer,
      at,
      words as Uint32Array<ArrayBuffer>,
      0,
      Math.min(words.length, (buffer.size - at) / 4),
    );
}
async function readBack(buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
  const back = device.createBuffer({ size: bytes, usage: 1 | 8 });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, back, 0, bytes);
  device.queue.submit([encoder.finish()]);
  await back.mapAsync(1);
  const copy = back.getMappedRange().slice(0);
  back.destroy();
  return copy;
}

type Type = "q4_0" | "q8_0" | "q4_k" | "q6_k" | "iq4_nl" | "f16";
interface Matrix {
  type: Type;
  rows: number;
  cols: number;
  copies: { codes: GPUBuffer; scales: GPUBuffer }[];
  sample(row: number): Float64Array;
}
function matrix(type: Type, rows: number, cols: number, copies: number): Matrix {
  const form = weightForm(type);
  const made = Array.from({ length: copies }, () => {
    const codes = make(rows * codesRowBytes(form, cols));
    const scales = make(Math.max(16, rows * scalesRowBytes(form, cols)));
    fill(codes, type === "f16" ? halfPattern : pattern);
    fill(scales, form.scales === "half" || form.scales === "halves" ? halfPattern : scalePattern);
    return { codes, scales };
  });
  const slice = (words: Uint32Array, row: number, bytes: number) =>
    Uint32Array.from({ length: bytes / 4 }, (_, i) => words[(row * (bytes / 4) + i) % words.length]);
  return {
    type,
    rows,
    cols,
    copies: made,
    sample: (row) =>
      unpackRow(
        form,
        slice(type === "f16" ? halfPattern : pattern, row, codesRowBytes(form, cols)),
        slice(
          form.scales === "half" || form.scales === "halves" ? halfPattern : scalePattern,
          row,
          scalesRowBytes(form, cols),
        ),
        0,
        cols,
      ),
  };
}
const free = (m: Matrix) => {
  for (const c of m.copies) {
    c.codes.destroy();
    c.scales.destroy();
  }
};

interface Run {
  name: string;
  values: Record<string, number | boolean>;
  groups: [number, number, number];
}
function uniform(words: Uint32Array): GPUBuffer {
  const b = device.createBuffer({ size: words.byteLength, usage: 64 | 8 });
  device.queue.writeBuffer(b, 0, words as Uint32Array<ArrayBuffer>);
  return b;
}

async function compare(
  kernel: "matmulVector" | "matmulMatrix",
  m: Matrix,
  tokens: number,
  runs: Run[],
  libs: Record<string, string>,
) {
  const groups = m.cols / 32;
  const x = Float32Array.from({ length: tokens * m.cols }, () => Math.random() * 2 - 1);
  const vector = kernel === "matmulVector";
  const xWords = vector ? packQ8(x, m.cols) : new Uint32Array(Uint16Array.from(x, f32ToF16).buffer);
  const seen = vector ? unpackQ8(xWords, m.cols) : Float32Array.from(x, (v) => f16ToF32(f32ToF16(v)));
  const xBuffer = make(xWords.byteLength);
  device.queue.writeBuffer(xBuffer, 0, xWords as Uint32Array<ArrayBuffer>);
  const out = make(tokens * m.rows * 4);
  const common = {
    rows: m.rows,
    groups,
    outCols: m.rows,
    split: 0xffffffff,
    firstColumn: 0,
    secondColumn: 0,
  };
  const params = uniform(
    vector ? packParams("matmulVector", common) : packParams("matmulMatrix", { ...common, tokens }),
  );
  const form = weightForm(m.type);
  const bindings = KERNELS[kernel].bindings;
  const bind = m.copies.map(({ codes, scales }) =>
    device.createBindGroup({
      layout: gpu.bindLayout(kernel),
      entries: bindings.map(([binding, , name]) => ({
        binding,
        resource: {
          buffer: ({ params, codes, scales, x: xBuffer, bias: scales, out } as Record<string, GPUBuffer>)[
            name
          ],
        },
      })),
    }),
  );
  const ready = await Promise.all(
    runs.map(async (run) => {
      try {
        const t = performance.now();
        const pipeline = await gpu.pipeline({ kernel, libs, values: { ...formValues(form), ...run.values } });
        return { run, pipeline, ms: performance.now() - t };
      } catch (e) {
        console.log(run.name, String(e).slice(0, 300));
        return null;
      }
    }),
  );
  const ok = ready.filter((r) => r !== null);
  const rowsSampled = [
    ...Array.from({ length: 12 }, () => Math.floor(Math.random() * m.rows)),
    0,
    m.rows - 1,
    m.rows - 17,
  ];
  const tokensSampled = tokens === 1 ? [0] : [0, 1, 77 % tokens, tokens - 1, tokens - 20];
  const wanted = rowsSampled.map((row) => {
    const w = m.sample(row);
    return tokensSampled.map((t) => {
      let sum = 0;
      for (let c = 0; c < m.cols; c++) sum += w[c] * seen[t * m.cols + c];
      return sum;
    });
  });
  const errors: number[] = [];
  for (const { run, pipeline } of ok) {
    const poison = new Uint32Array(1 << 16).fill(0x7fc00000);
    fill(out, poison);
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bind[0]);
    pass.dispatchWorkgroups(...run.groups);
    pass.end();
    device.queue.submit([encoder.finish()]);
    const found = new Float32Array(await readBack(out, tokens * m.rows * 4));
    let d = 0;
    let s = 0;
    rowsSampled.forEach((row, i) =>
      tokensSampled.forEach((t, k) => {
        d += (found[t * m.rows + row] - wanted[i][k]) ** 2;
        s += wanted[i][k] ** 2;
      }),
    );
    let unwritten = 0;
    for (let i = 0; i < found.length; i += 7) if (Number.isNaN(found[i])) unwritten++;
    errors.push(unwritten ? Number.NaN : Math.sqrt(d / s));
  }
  const repeat = vector ? 12 : 3;
  const encode = (i: number) => (pass: GPUComputePassEncoder) => {
    pass.setPipeline(ok[i].pipeline);
    for (let k = 0; k < repeat; k++) {
      pass.setBindGroup(0, bind[k % bind.length]);
      pass.dispatchWorkgroups(...ok[i].run.groups);
    }
  };
  const times = await timePasses(
    gpu,
    ok.map((_, i) => encode(i)),
    encode(0),
    7,
  );
  const bytes = m.rows * (codesRowBytes(form, m.cols) + scalesRowBytes(form, m.cols));
  const rows = ok.map(({ run, ms }, i) => {
    const us = times[i] / repeat;
    const rate = vector
      ? { gbps: Math.round(bytes / us / 1e3) }
      : { tflops: +((2 * m.rows * m.cols * tokens) / us / 1e6).toFixed(1) };
    return {
      label,
      kernel,
      type: m.type,
      shape: `${m.rows}x${m.cols}x${tokens}`,
      name: run.name,
      us: +us.toFixed(2),
      ...rate,
      error: +errors[i].toExponential(1),
      compileMs: Math.round(ms),
    };
  });
  results.push(...rows);
  const sorted = [...rows].sort((a, b) => a.us - b.us);
  console.log(`== ${label} ${kernel} ${m.type} ${m.rows}x${m.cols}x${tokens}`);
  for (const r of sorted)
    console.log(
      `${r.us.toFixed(1).padStart(8)} us ${"gbps" in r ? `${r.gbps} GB/s` : `${(r as { tflops: number }).tflops} TF`}  ${r.name}  err ${r.error} (${r.compileMs} ms)`,
    );
  xBuffer.destroy();
  out.destroy();
}

const vectorRun = (
  m: { rows: number },
  workgroup: number,
  team: number,
  rows: number,
  unroll: number,
): Run => ({
  name: `wg ${workgroup} team ${team} rows ${rows} unroll ${unroll}`,
  values: { WORKGROUP: workgroup, TEAM: team, SUBGROUP: 32, ROWS: rows, UNROLL: unroll, TOKENS: 1 },
  groups: [Math.ceil(m.rows / (rows * (workgroup / team))), 1, 1],
});
if (parts.includes("vector")) {
  const m = matrix("q4_0", 28672, 8192, 4);
  const all: Run[] = [];
  for (const wg of [32, 64, 128, 256])
    for (const rows of [1, 2, 4, 8])
      for (const unroll of [1, 2, 4]) if (rows * unroll <= 8) all.push(vectorRun(m, wg, 32, rows, unroll));
  for (const rows of [1, 2, 4])
    for (const unroll of [1, 2])
      all.push(vectorRun(m, 64, 64, rows, unroll), vectorRun(m, 256, 256, rows, unroll));
  await compare("matmulVector", m, 1, all, { teamSum: "subgroup", codes: "plain" });
  free(m);
  for (const [rows, cols] of [
    [8192, 28672],
    [8192, 8192],
    [14336, 4096],
  ]) {
    const n = matrix("q4_0", rows, cols, Math.ceil(3e8 / (rows * cols * 0.56)));
    await compare(
      "matmulVector",
      n,
      1,
      [
        [64, 32, 1, 2],
        [64, 32, 2, 1],
        [64, 32, 2, 2],
        [64, 32, 4, 1],
        [128, 32, 1, 2],
        [128, 32, 2, 2],
        [128, 32, 4, 1],
        [128, 32, 4, 2],
        [64, 64, 2, 2],
        [64, 64, 4, 1],
      ].map(([a, b, c, d]) => vectorRun(n, a, b, c, d)),
      { teamSum: "subgroup", codes: "plain" },
    );
    free(n);
  }
}
const matrixRun = (
  m: { rows: number },
  tokens: number,
  sr: number,
  st: number,
  fr: number,
  ft: number,
  step: number,
  stages: number,
): Run => ({
  name: `tile ${sr * fr * 16}x${st * ft * 16} subgroups ${sr}x${st} step ${step} stages ${stages}`,
  values: {
    SUBGROUP: 32,
    SUBGROUPS_ROWS: sr,
    SUBGROUPS_TOKENS: st,
    FRAGMENTS_ROWS: fr,
    FRAGMENTS_TOKENS: ft,
    STEP: step,
    STAGES: stages,
  },
  groups: [Math.ceil(tokens / (st * ft * 16)), Math.ceil(m.rows / (sr * fr * 16)), 1],
});
if (parts.includes("matrix")) {
  const m = matrix("q4_0", 28672, 8192, 1);
  const shapes = [
    [2, 4, 4, 2],
    [2, 4, 2, 4],
    [4, 2, 2, 4],
    [4, 2, 4, 4],
    [2, 4, 4, 4],
    [2, 2, 4, 4],
    [2, 2, 2, 4],
    [2, 2, 4, 2],
    [4, 2, 1, 4],
    [2, 4, 4, 1],
    [4, 2, 2, 8],
    [2, 4, 8, 2],
    [2, 2, 2, 2],
  ];
  const all = shapes
    .flatMap(([a, b, c, d]) =>
      [
        [32, 1],
        [32, 2],
        [64, 1],
      ].map(([step, stages]) => matrixRun(m, 512, a, b, c, d, step, stages)),
    )
    .filter(({ values: v }) => {
      const n = Number;
      const wg = n(v.SUBGROUPS_ROWS) * n(v.SUBGROUPS_TOKENS) * 32;
      const tr = n(v.SUBGROUPS_ROWS) * n(v.FRAGMENTS_ROWS) * 16;
      const tt = n(v.SUBGROUPS_TOKENS) * n(v.FRAGMENTS_TOKENS) * 16;
      return (
        (tr * n(v.STEP)) / 16 >= wg &&
        (tt * n(v.STEP)) / 8 >= wg &&
        n(v.STAGES) * (tr + tt) * (n(v.STEP) / 8 + 1) * 16 <= 49152
      );
    });
  await compare("matmulMatrix", m, 512, all, { codes: "plain" });
  free(m);
}
writeFileSync(outFile, results.map((r) => JSON.stringify(r)).join("\n"));
gpu.close();
(globalThis as any).keep = null;
