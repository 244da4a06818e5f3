/**
 * What real buffers must be: the program's, made by allocation.ts, and the bench's.
 */
import { USAGE } from "./flags.ts";

/** One 16x16 tile of float32: a buffer where subgroup matrices are stored cannot be bound when it is smaller. */
export const LEAST_RESULT_BYTES = 1024;

/** WebGPU's default limit of a uniform binding. */
const MOST_UNIFORM_BYTES = 65_536;

/** Small tables may be read as uniforms, where kernels have no storage binding left. */
export function storageUsage(bytes: number): number {
  const storage = USAGE.storage | USAGE.copySource | USAGE.copyTarget;
  return bytes <= MOST_UNIFORM_BYTES ? storage | USAGE.uniform : storage;
}
