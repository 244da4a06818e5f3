/** WebGPU's flag numbers: the namespace objects that the Web has for them are no globals before Dawn is loaded. */

/** GPUBufferUsage. */
export const USAGE = {
  mapRead: 1,
  copySource: 4,
  copyTarget: 8,
  uniform: 64,
  storage: 128,
  queryResolve: 512,
} as const;

/** GPUMapMode.READ. */
export const MAP_READ = 1;

/** GPUShaderStage.COMPUTE. */
export const COMPUTE = 4;
