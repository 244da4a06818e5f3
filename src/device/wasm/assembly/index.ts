// The WASM module's exports. The kernels are called by the interpreter in run.ts; some are also exported for loading
// (repack) and for the conformance tests.
export { ABI } from "./abi/number";
export * from "./build";
export { barrier } from "./barrier";
export { attend, attendMerge, attendMergeUnits, attendSpans, attendTiles, attendUnits } from "./attend";
export { turnedWorkBytes } from "./attend-turned";
export { attendWorkBytes } from "./attend-work";
export { deltaRuns, deltaUnits, deltaWorkBytes } from "./delta";
export { appendKv } from "./kv-append";
export { packBlock, packWorkBytes } from "./kv-pack";
export { repackRows } from "./repack";
export { run } from "./run";
export { expertMatmul, expertUnits, groupPicks, routeRows } from "./experts";
export { embedRow } from "./embed";
export { matmul, matmulScratchBytes } from "./matmul";
export { panelBytes } from "./matmul-layout";
export { quantizedBytes, quantizeRows } from "./quantize";
export { readBytes } from "./bandwidth";
