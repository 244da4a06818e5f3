/** Operations, and variants of them (facts.ts), that fast devices have no kernels for yet; they refuse graphs with them. */

const NEW = [
  ...["slice", "scale", "route", "expertMatmul", "combine"],
  ...["conv", "gatedDelta"],
  ...["gate sigmoid", "gate swigluOai", "gate of several columns", "attend with sinks"],
];

export const WASM_LACKS: ReadonlySet<string> = new Set(NEW);
export const GPU_LACKS: ReadonlySet<string> = new Set(["conv", "gatedDelta"]);
