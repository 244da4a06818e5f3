/** Random graphs for property tests: any operations on any values, as far as shapes allow. */
import fc from "fast-check";
import { kvCodec } from "../../src/cache/codecs.ts";
import type { Graph, Value } from "../../src/device/contract.ts";
import { Recorder } from "../../src/device/recorder.ts";

/** Rows of the embedding tables. */
export const IDS = 9;
const COLS = [64, 96, 224];
export const MAX_TOKENS = 5;
export const MAX_OUTPUTS = 2;

export interface Choice {
  kind:
    | "embed"
    | "rmsNorm"
    | "matmul"
    | "rope"
    | "gate"
    | "add"
    | "softcap"
    | "takeOutputs"
    | "attend"
    | "label";
  /** Which of the values so far are read. */
  a: number;
  b: number;
  cols: number;
}

/** Any graph that the recorder allows: operations on values chosen among those there are. */
export function randomGraph(choices: readonly Choice[], last: number, keepLabels: boolean): Graph {
  const op = new Recorder(MAX_TOKENS, MAX_OUTPUTS);
  const rope = op.ropeTable(Float64Array.of(1, 0.1));
  let weights = 0;
  const matrix = (rows: number, cols: number) => op.weight(`w${weights++}`, "matrix", "f32", rows, cols);
  const values: Value[] = [op.embed(matrix(IDS, 64))];
  for (const { kind, a, b, cols } of choices) {
    const x = values[a % values.length];
    const like = values.filter((v) => v.rows === x.rows && v.cols === x.cols);
    const y = like[b % like.length];
    switch (kind) {
      case "embed":
        values.push(op.embed(matrix(IDS, cols)));
        break;
      case "rmsNorm":
        values.push(op.rmsNorm(x, null, 1e-6));
        break;
      case "matmul":
        values.push(op.matmul(x, matrix(cols, x.cols)));
        break;
      case "rope":
        if (x.rows === "tokens") values.push(op.rope(x, 2, rope));
        break;
      case "gate":
        values.push(op.gate(x, y, "silu"));
        break;
      case "add":
        values.push(op.add(x, y));
        break;
      case "softcap":
        values.push(op.softcap(x, 5));
        break;
      case "takeOutputs":
        if (x.rows === "tokens") values.push(op.takeOutputs(x));
        break;
      case "attend": {
        if (x.rows !== "tokens") break;
        const head = { layer: 0, codec: kvCodec("f16"), kvHeads: 1, headDim: x.cols };
        const cache = op.cache({ ...head, capacity: 32, window: null });
        op.appendKv(cache, x, y);
        values.push(op.attend(cache, y, { heads: 1, scale: 1 / x.cols }));
        break;
      }
      case "label":
        op.label(x, `label ${a % 3}`);
    }
  }
  return op.finish(values[last % values.length], { keepLabels });
}

const kinds: Choice["kind"][] = [
  ...(["embed", "rmsNorm", "matmul", "rope", "gate", "add", "softcap"] as const),
  ...(["takeOutputs", "attend", "label"] as const),
];
/** One choice, at random. */
export const choice = fc.record({
  kind: fc.constantFrom(...kinds),
  a: fc.nat(1000),
  b: fc.nat(1000),
  cols: fc.constantFrom(...COLS),
});
