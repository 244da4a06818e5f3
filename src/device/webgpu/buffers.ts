/** Requirements on GPU buffers, both the program's (made by allocation.ts) and the bench's. */
import { USAGE } from "./flags.ts";

/** One 16x16 tile of float32: a smaller buffer cannot be bound where subgroup matrices are stored. */
export const LEAST_RESULT_BYTES = 1024;

/** WebGPU's default limit for a uniform binding. */
const MOST_UNIFORM_BYTES = 65_536;

/** Small tables may be read as uniforms, if kernels have no storage binding left. */
export function storageUsage(bytes: number): number {
  const storage = USAGE.storage | USAGE.copySource | USAGE.copyTarget;
  return bytes <= MOST_UNIFORM_BYTES ? storage | USAGE.uniform : storage;
}
