/**
 * `nibble doctor`: the library's examination as text for people or JSON for programs. Names of devices come from
 * drivers and are shown with their control characters escaped.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeFolder } from "../format/make-folder.ts";
import { type AdapterFinding, type Diagnosis, diagnose, kernelTexts } from "../index.ts";
import { bytes, grouped, rounded } from "../plot/numbers.ts";
import { write } from "./interrupt.ts";
import { printable } from "./terminal.ts";

export async function printDiagnosis(
  version: string,
  options: { json?: boolean },
  signal: AbortSignal,
): Promise<void> {
  const found = await diagnose();
  await write(
    options.json ? `${JSON.stringify({ version, ...found })}\n` : `${toText(version, found).join("\n")}\n`,
    signal,
  );
}

/** Each kernel to a file of the folder, which is made. */
export async function writeKernels(folder: string, signal: AbortSignal): Promise<void> {
  const kernels = kernelTexts();
  makeFolder(folder);
  for (const { name, text } of kernels) await writeFile(join(folder, `${name}.wgsl`), text);
  await write(`${kernels.length} kernels in ${folder}\n`, signal);
}

function toText(version: string, found: Diagnosis): string[] {
  const { machine, cpu, used, problems, advice } = found;
  const simd = cpu.relaxedSimd ? "relaxed SIMD" : "SIMD128";
  const gpuMemory = machine.gpuMemory
    ? `${bytes(machine.gpuMemory.bytes)} (${machine.gpuMemory.source})`
    : "not known";
  return [
    ...section("machine", [
      ["nibble", version],
      ["node", machine.node],
      ["system", `${machine.platform} ${machine.release}, ${machine.arch}`],
      [
        "processor",
        `${printable(machine.processor)}, ${machine.cores} cores, ${machine.threads} threads, ${simd}`,
      ],
      ["memory", `${bytes(machine.memoryBytes)}, ${bytes(machine.freeBytes)} of it free`],
      ...(machine.gpuMemory || found.adapters.some(({ software }) => !software)
        ? [["GPU memory", gpuMemory] as const]
        : []),
    ]),
    "",
    ...section("GPUs through WebGPU", adaptersText(found)),
    "",
    ...section("will be used", [
      ["device", printable(used.description)],
      ["because", used.reason],
      ...(used.kernels ? [["kernels", kernelsText(used.kernels)] as const] : []),
    ]),
    "",
    ...section("memory read at", [
      [`CPU, ${cpu.threads} thread${cpu.threads === 1 ? "" : "s"}`, perSecond(cpu.readBytesPerSecond)],
      ...(found.gpuReadBytesPerSecond === null
        ? []
        : [["GPU", perSecond(found.gpuReadBytesPerSecond)] as const]),
    ]),
    ...speedsText(found),
    "",
    ...section("a model to begin with", [modelText(found)]),
    ...list("not measured", problems),
    ...list("advice", advice),
  ];
}

function kernelsText({ set, sets, ms }: NonNullable<Diagnosis["used"]["kernels"]>): string {
  if (!ms) return sets.length > 1 ? `${set}; not timed` : set;
  const times = Object.entries(ms).map(([name, time]) => `${name} ${rounded(time)} ms`);
  return `${set}, the fastest (${times.join(", ")}); --kernels chooses another`;
}

function modelText({ model }: Diagnosis): readonly [string, string] {
  if (model === null)
    return ["none", "of the list of nibble models fits this memory; needle ships with nibble"];
  return [model, `nibble run ${model} "Hello"; nibble models lists more`];
}

function adaptersText({ adapters, gpuProblem }: Diagnosis): (readonly [string, string])[] {
  const rows = adapters.flatMap((adapter) => [
    [printable(adapter.name), describe(adapter)] as const,
    ["", limits(adapter)] as const,
  ]);
  return rows.length > 0 ? rows : [["none", printable(gpuProblem ?? "")]];
}

function describe({ software, traits }: AdapterFinding): string {
  const { f16, subgroup, matrices, timestamps } = traits;
  const has = (name: string, is: boolean) => `${is ? "" : "no "}${name}`;
  return [
    ...(software ? ["in software"] : []),
    has("f16", f16),
    subgroup === null ? "no subgroups of one size" : `subgroups of ${subgroup}`,
    has("subgroup matrices", matrices),
    has("timestamps", timestamps),
  ].join(", ");
}

function limits({ limits: found }: AdapterFinding): string {
  const {
    maxStorageBufferBindingSize: binding,
    maxBufferSize: buffer,
    maxComputeWorkgroupStorageSize: local,
  } = found;
  return `bindings of ${bytes(binding)}, buffers of ${bytes(buffer)}, ${bytes(local)} of workgroup memory`;
}

function speedsText({ speeds }: Diagnosis): string[] {
  if (speeds.length === 0) return [];
  const rows = speeds.map(({ shape, weights, kv, contexts, fits }) => {
    const bounds = contexts.map(({ tokens, tokensPerSecond }) => {
      const where = tokens === 0 ? "with an empty cache" : `at ${grouped(tokens)} tokens of ${kv}`;
      return `${rounded(tokensPerSecond)} ${where}`;
    });
    return [`${shape} ${weights}`, `${bounds.join(", ")}${fits ? "" : " (does not fit here)"}`] as const;
  });
  return ["", ...section("generation at most, in tokens/s: each token reads weights and cache once", rows)];
}

function perSecond(rate: number | null): string {
  return rate === null ? "not measured" : `${rounded(rate / 1e9)} GB/s`;
}

function list(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ["", title, ...lines.map((line) => `  ${printable(line)}`)];
}

function section(title: string, rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(0, ...rows.map(([key]) => key.length)) + 2;
  return [title, ...rows.map(([key, value]) => `  ${key.padEnd(width)}${value}`.trimEnd())];
}
