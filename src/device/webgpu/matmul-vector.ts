/**
 * The dispatches of matmulVector: quantized weights times one token, alone, or joined with the addition and the norm,
 * or with the gate, that read its products.
 */
import type { Activation } from "../contract.ts";
import { type Dispatch, type PlannedBuffer, rowCount, spread } from "./dispatch.ts";
import { ACTIVATION_IDS } from "./elementwise.ts";
import { DEFAULT_THREADS } from "./gpu.ts";
import { buffersOf, bytesOf, type MatmulOptions, type PlacedPart } from "./matmul-options.ts";
import { packParams } from "./params.ts";
import { NO_EXPERTS, ONE_TOKEN, type TeamShape, teams, teamWorkgroups } from "./teams.ts";
import { formValues, groupsOf } from "./weights.ts";

/** Values of the parts of the kernel that are unused if it is not joined, or serves one matrix. */
const ALONE = { ...NO_EXPERTS, xGroups: 0, pickGroups: 0, factor: 1, gateRow: 0, upRow: 0, limit: 0 };

/**
 * One subgroup per workgroup and one row for it, two groups per lane in flight: within 2 % of the best of 50 settings
 * for six shapes from 4096x14336 to 57344x8192 (46.2 us for 28672x8192 q4_0 on H100, 2026-11-23, bench row
 * matmulVector). With more rows per team the activations would be shared, but those are in the nearest cache anyway.
 */
export function vectorDispatch(options: MatmulOptions, part: PlacedPart): Dispatch {
  const { traits, matrix, x, spare, unscaled = null } = options;
  const shape = teams(traits, Math.max(32, traits.subgroup ?? 64), 1);
  return {
    label: "matmul",
    kernel: {
      kernel: "matmulVector",
      libs: { ...shape.libs, codes: matrix.form.lib },
      values: { ...commonValues(options, shape), ROWS: shape.rows, UNROLL: 2 },
    },
    params: packParams("matmulVector", {
      ...ALONE,
      rows: part.rows,
      groups: groupsOf(matrix.cols),
      outCols: matrix.rows,
      firstColumn: part.first,
      epsilon: unscaled ?? 0,
    }),
    buffers: { ...buffersOf(options, part), picks: x.buffer, gain: x.buffer, sum: spare },
    workgroups: teamWorkgroups(options, part, shape, ONE_TOKEN),
    bytes: bytesOf(part),
  };
}

function commonValues({ matrix, unscaled = null }: MatmulOptions, shape: TeamShape) {
  return {
    ...formValues(matrix.form),
    WORKGROUP: shape.workgroup,
    TEAM: shape.team,
    SUBGROUP: shape.subgroup,
    HAS_BIAS: matrix.bias !== null,
    NORMED: unscaled !== null,
  };
}

/** The operation that continues with the products of one token, whose result is a row of q8. */
export type Join =
  /** sum = (addedTo + products) * factor; q8 of sum * gain, not yet normed (MatmulOptions.unscaled). */
  | {
      readonly kind: "addNorm";
      readonly addedTo: PlannedBuffer;
      readonly gain: PlannedBuffer | null;
      readonly factor: number;
      readonly sum: PlannedBuffer;
    }
  /** activation(gate) * up, for rows of the matrix that begin there. */
  | {
      readonly kind: "gate";
      readonly activation: Activation;
      readonly limit: number;
      readonly gateRow: number;
      readonly upRow: number;
    };

/** Products of a workgroup: a group of q8. */
const JOINED = 32;
/**
 * For a matrix in one part, whose input is q8; cols: columns of the result, a multiple of 32.
 *
 * As many threads as a device allows, a row of weights for each team, one group of it per lane in flight. A step of
 * Llama 3.1 8B, q4_0, int4, no context, on an H200, us: not joined 2,911; joined with 256 threads 2,845, with 512 and
 * two groups 2,764, with 1024 2,457, with 1024 and two groups 2,766 (2026-11-28).
 */
export function joinedDispatch(options: MatmulOptions, join: Join, cols: number): Dispatch {
  const { traits, matrix, x, rows, spare, unscaled = null } = options;
  const [part] = matrix.parts;
  const { threads = DEFAULT_THREADS } = traits;
  const { team } = teams(traits, threads, 1);
  const shape = teams(traits, Math.min(threads, JOINED * team), 1);
  const each = (JOINED * shape.team) / shape.workgroup;
  const isGate = join.kind === "gate";
  const all = spread(cols / JOINED);
  return {
    label: isGate ? "matmul, gate" : "matmul, norm",
    kernel: {
      kernel: "matmulVector",
      libs: { ...shape.libs, codes: matrix.form.lib },
      values: {
        ...commonValues(options, shape),
        ROWS: isGate ? 2 * each : each,
        UNROLL: 1,
        JOIN: isGate ? 2 : 1,
        ...(isGate ? { ACTIVATION: ACTIVATION_IDS[join.activation] } : { HAS_GAIN: join.gain !== null }),
      },
    },
    params: packParams("matmulVector", {
      ...ALONE,
      rows: cols,
      groups: groupsOf(matrix.cols),
      outCols: cols,
      firstColumn: 0,
      epsilon: unscaled ?? 0,
      ...(isGate ? { gateRow: join.gateRow, upRow: join.upRow, limit: join.limit } : { factor: join.factor }),
    }),
    buffers: {
      ...buffersOf(options, part),
      ...(isGate
        ? { picks: x.buffer, gain: x.buffer, sum: spare }
        : { picks: join.addedTo, gain: join.gain ?? x.buffer, sum: join.sum }),
    },
    workgroups: (step) => (rowCount(rows, step) === 0 ? null : all),
    bytes: bytesOf(part),
  };
}
