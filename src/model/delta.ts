/**
 * The gated delta net as a layer's mixer (Gated Delta Networks, arXiv 2412.06464; as in Qwen3-Next): q, k and v pass
 * through a short convolution and update a recurrent state for each value head; the state's output is normed and gated.
 */
import type { Value } from "../device/contract.ts";
import type { Recorder } from "../device/recorder.ts";
import type { DeltaSpec } from "./config.ts";
import type { Parts } from "./layers.ts";

/** Epsilon of the L2 norms of q and k, whatever the model's own epsilon is. */
const UNIT_EPSILON = 1e-6;

/** Columns of q, k and v together, and of v alone. */
export function deltaColumns({ keyHeads, valueHeads, keyDim, valueDim }: DeltaSpec) {
  const values = valueHeads * valueDim;
  return { mixed: 2 * keyHeads * keyDim + values, values };
}

/** x [tokens, hidden], already normed -> [tokens, hidden]. */
export function gatedDeltaNet(op: Recorder, parts: Parts, layer: number, spec: DeltaSpec, x: Value): Value {
  const { keyHeads, valueHeads, keyDim, valueDim, kernel, tiled } = spec;
  const { hidden, normEpsilon } = parts.config;
  const columns = deltaColumns(spec);
  const project = (name: string, rows: number) => op.matmul(x, parts.matrix(name, rows, hidden, layer));
  const mixed = op.conv(
    project("deltaMixed", columns.mixed),
    parts.vector("deltaConv", columns.mixed * kernel, layer),
    { layer, kernel, activation: "silu" },
  );
  const said = op.gatedDelta(
    { x: mixed, a: project("deltaA", valueHeads), b: project("deltaB", valueHeads) },
    {
      rates: parts.vector("deltaRates", valueHeads, layer),
      bias: parts.vector("deltaBias", valueHeads, layer),
    },
    { layer, keyHeads, valueHeads, keyDim, valueDim, tiled, epsilon: UNIT_EPSILON },
  );
  const normed = op.rmsNorm(said, parts.vector("deltaNorm", valueDim, layer), normEpsilon, valueHeads);
  const gated = op.gate(project("deltaGate", columns.values), normed, "silu");
  return op.matmul(gated, parts.matrix("deltaOut", hidden, columns.values, layer));
}
