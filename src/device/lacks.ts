/** Operations, and variants of them (facts.ts), that fast devices have no kernels for yet; they refuse graphs with them. */

export const WASM_LACKS: ReadonlySet<string> = new Set();
export const GPU_LACKS: ReadonlySet<string> = new Set();
