/**
 * GPUs for tests. SwiftShader computes in software: subgroups of 4, no f16, no matrices; vitest.config.ts has put it into
 * the environment. Dawn's null backend computes nothing and has every feature: it shows that a kernel with f16 or
 * subgroup matrices compiles. Both close by themselves when the test file ends, so that its process can.
 */
import { afterAll, describe } from "vitest";
import { UNSUPPORTED } from "../../../scripts/chromium-parts.js";
import { dawnGpu } from "../../../src/device/webgpu/dawn.ts";
import {
  Gpu,
  MATRIX_WORKGROUP_BYTES,
  type TraitOptions,
  type Traits,
  traitsOf,
} from "../../../src/device/webgpu/gpu.ts";
import { type KernelSpec, shaderText } from "../../../src/device/webgpu/wgsl.ts";
import { compilesLate } from "./late.ts";
import { IS_POISONED, poisoned, ZEROING_TOGGLES } from "./poison.ts";
import "./polling.ts";

/** Why there is no GPU here to test with; null: there is one. */
export const NO_GPU: string | null = process.env.VK_ICD_FILENAMES === undefined ? UNSUPPORTED : null;

/** The GPU is the one that vitest.config.ts has put there, and no other driver that the environment named. */
export const IS_SWIFTSHADER = process.env.VK_ICD_FILENAMES?.includes("nibble-swiftshader") ?? false;

/** `describe` for suites that need SwiftShader: where it cannot run they are skipped, and their name says why. */
export function describeGpu(name: string, body: () => void): void {
  if (NO_GPU === null) describe(name, body);
  else describe.skip(`${name} (no GPU: ${NO_GPU})`, body);
}

/** `navigator.gpu` of the Web, on SwiftShader, which compiles what runs. */
export async function softwareGpu(): Promise<GPU> {
  return kept(compilesLate(IS_POISONED ? poisoned(await dawnGpu({}, ZEROING_TOGGLES)) : await dawnGpu()));
}

/** SwiftShader's adapter. An error, not null, when Dawn finds none. */
export async function softwareAdapter(): Promise<GPUAdapter> {
  const adapter = await (await softwareGpu()).requestAdapter();
  if (adapter === null) {
    const { VK_ICD_FILENAMES: driver, LD_LIBRARY_PATH: libraries } = process.env;
    throw new Error(
      `Dawn found no adapter with VK_ICD_FILENAMES=${driver}, LD_LIBRARY_PATH=${libraries}. Run tests through vitest, whose config sets both before the process starts.`,
    );
  }
  return adapter;
}

/** SwiftShader as kernels see it; `options` refuses features, to test the variants without them. */
export async function softwareDevice(
  options: TraitOptions = {},
  limits: Record<string, number> = {},
): Promise<Gpu> {
  const adapter = await softwareAdapter();
  return opened(await Gpu.open(adapter, traitsOf(adapter, options), limits));
}

/** f16, subgroups of 32 and f16 matrices, as on an NVIDIA GPU: the traits of a device that only compiles. */
export const ALL_TRAITS: Traits = {
  f16: true,
  subgroup: 32,
  matrices: true,
  timestamps: false,
  few: 8,
  several: 16,
  batch: 64,
};

/** What every device has. */
export const NO_TRAITS: Traits = {
  f16: false,
  subgroup: null,
  matrices: false,
  timestamps: false,
  few: 8,
  several: 8,
  batch: 64,
};

/** Dawn's null backend. */
export async function nullGpu(): Promise<GPU> {
  const { create, globals } = await import("webgpu");
  Object.assign(globalThis, globals);
  return kept(create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]));
}

/** A device that validates and compiles kernels for any traits, and computes nothing. */
export async function nullDevice(
  traits: Traits = ALL_TRAITS,
  limits: Record<string, number> = {},
): Promise<Gpu> {
  const adapter = await (await nullGpu()).requestAdapter();
  if (adapter === null) throw new Error("Dawn has no null backend");
  return opened(await Gpu.open(adapter, traits, limits));
}

const compiling = new Map<string, Promise<Gpu>>();

/** The null backend's device with these traits, one for all tests of a file: it compiles a text once. */
export function compilingDevice(traits: Traits): Promise<Gpu> {
  const key = JSON.stringify(traits);
  const made = compiling.get(key) ?? nullDevice(traits);
  compiling.set(key, made);
  return made;
}

/** The features of devices on which a text has compiled, without its line of extensions. */
const compiled = new Map<string, (readonly boolean[])[]>();
/** By kernel, values and libraries. */
const texts = new Map<string, string>();

/**
 * Compiles a kernel, unless a device of this file with no more features has compiled its text: more extensions take nothing from
 * a text that needs none of them.
 */
export async function compile(gpu: Gpu, spec: KernelSpec): Promise<void> {
  const { f16, subgroup, matrices, matrices8 = false } = gpu.traits;
  const features = [f16, subgroup !== null, matrices || matrices8];
  const key = JSON.stringify([spec.kernel, spec.values, spec.libs ?? null]);
  const text = texts.get(key) ?? shaderText(spec, []);
  texts.set(key, text);
  const known = compiled.get(text) ?? [];
  if (known.some((fewer) => fewer.every((has, i) => features[i] || !has))) return;
  await gpu.pipeline(spec);
  compiled.set(text, [...known, features]);
}

/**
 * Whether the null backend refuses a kernel with matrices for what it has less of than the adapters that have those: it has the
 * default limit of workgroup memory, and subgroups of up to 128, of which matrices want whole ones in a workgroup.
 */
export function lacksOfNull({ message }: Error): boolean {
  const [, bytes] = /total use of workgroup storage \((\d+) bytes\)/.exec(message) ?? [];
  return (
    message.includes("must be a multiple of the device maxSubgroupSize (128)") ||
    Number(bytes) <= MATRIX_WORKGROUP_BYTES
  );
}

const devices: Gpu[] = [];
/** Dawn's callbacks run on threads of this object: collected while a device works, it takes the process with it. */
const gpus: GPU[] = [];

afterAll(() => {
  for (const gpu of devices.splice(0)) gpu.close();
  gpus.length = 0;
});

function opened(gpu: Gpu): Gpu {
  devices.push(gpu);
  return gpu;
}

function kept(gpu: GPU): GPU {
  gpus.push(gpu);
  return gpu;
}
