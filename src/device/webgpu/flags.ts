/** WebGPU's flag numbers: the Web's namespace objects for them are not global before Dawn is loaded. */

/** GPUBufferUsage. */
export const USAGE = {
  mapRead: 1,
  mapWrite: 2,
  copySource: 4,
  copyTarget: 8,
  uniform: 64,
  storage: 128,
  queryResolve: 512,
} as const;

/** GPUMapMode.READ. */
export const MAP_READ = 1;
/** GPUMapMode.WRITE. */
export const MAP_WRITE = 2;

/** GPUShaderStage.COMPUTE. */
export const COMPUTE = 4;
