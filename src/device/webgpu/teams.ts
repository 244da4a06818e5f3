/**
 * Teams: the invocations that together compute a row of a product, a subgroup if there is one. Shared by the kernels
 * for matrix times vector.
 */
import { type StepShape, spread, type Workgroups } from "./dispatch.ts";
import type { Traits } from "./gpu.ts";
import { countFor, type MatmulOptions, type TokenShape } from "./matmul-options.ts";
import type { MatrixPart } from "./weights.ts";
import type { KernelValues } from "./wgsl.ts";

export const ONE_TOKEN: TokenShape = { tokens: 1, from: 1, to: 1 };

/** Params of kernels that also serve experts (experts.ts). */
export const NO_EXPERTS = { partFirst: 0, partRows: 0 };

export interface TeamShape {
  workgroup: number;
  team: number;
  subgroup: number;
  /** Rows of weights of one team. */
  rows: number;
  libs: { teamSum: "subgroup" | "shared" };
}

/** A team is a subgroup if there is one; rows: rows of weights for each team. */
export function teams({ subgroup }: Traits, workgroup: number, rows: number): TeamShape {
  if (subgroup !== null && subgroup <= workgroup)
    return { workgroup, team: subgroup, subgroup, rows, libs: { teamSum: "subgroup" } };
  return { workgroup, team: 32, subgroup: 1, rows, libs: { teamSum: "shared" } };
}

export function teamValues(
  { matrix, rows }: MatmulOptions,
  shape: TeamShape,
  { tokens }: TokenShape,
): KernelValues {
  return {
    WORKGROUP: shape.workgroup,
    TEAM: shape.team,
    SUBGROUP: shape.subgroup,
    TOKENS: tokens,
    OUTPUTS: rows === "outputs",
    HAS_BIAS: matrix.bias !== null,
  };
}

export function teamWorkgroups(
  options: MatmulOptions,
  part: MatrixPart,
  shape: TeamShape,
  serves: TokenShape,
) {
  const each = (shape.workgroup / shape.team) * shape.rows;
  const one = spread(Math.ceil(part.rows / each));
  return (step: StepShape): Workgroups | null => {
    const count = countFor(options, serves, step);
    if (count === 0) return null;
    return count <= serves.tokens ? one : [one[0], one[1], Math.ceil(count / serves.tokens)];
  };
}
