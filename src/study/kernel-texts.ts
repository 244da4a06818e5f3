/**
 * The GPU's kernels as they are compiled: unrolled code written out, libraries appended, constants with their defaults.
 */
import { KERNELS, type KernelName, LIBS } from "../device/webgpu/kernels.ts";
import { shaderText } from "../device/webgpu/wgsl.ts";

/** A GPU kernel as it is compiled. */
export interface KernelText {
  /** `attendDecode`; for a library with variants also which one: `attendDecode.lanes-shared`. */
  readonly name: string;
  /** WGSL. */
  readonly text: string;
}

/** All kernels, in the order of their names, in each variant of their libraries. */
export function kernelTexts(): KernelText[] {
  return (Object.keys(KERNELS) as KernelName[]).flatMap((kernel) => {
    const varying = KERNELS[kernel].libs.filter((lib) => !Object.hasOwn(LIBS, lib));
    const sets = varying.reduce<Record<string, string>[]>(
      (found, lib) => found.flatMap((set) => variantsOf(lib).map((variant) => ({ ...set, [lib]: variant }))),
      [{}],
    );
    return sets.map((libs) => {
      const name = [kernel, ...Object.entries(libs).map((pair) => pair.join("-"))].join(".");
      return { name, text: shaderText({ kernel, values: {}, libs }, []) };
    });
  });
}

const variantsOf = (lib: string): string[] =>
  Object.keys(LIBS).flatMap((file) => (file.startsWith(`${lib}.`) ? [file.slice(lib.length + 1)] : []));
