// The WASM module's exports. Each kernel file is reached through the interpreter in run.ts; some are exported as
// well for loading (repack) and for the conformance tests.
export * from "./build";
export { attend, attendMerge, attendMergeUnits, attendSpans, attendUnits } from "./attend";
export { attendWorkBytes } from "./attend-work";
export { appendKv } from "./kv-append";
