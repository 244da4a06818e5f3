/**
 * The dispatches of operations on single values or rows: norms with the additions before them, gate, add, softcap,
 * rope, copies (of slices, or with a factor), combine. Computes their Params and workgroup counts; the kernels are in
 * files of the same names.
 */
import type { Activation } from "../contract.ts";
import { type Dispatch, type PlannedBuffer, rowCount, type StepShape, spread } from "./dispatch.ts";
import { FORM_IDS, type Form, factorsAt, type View } from "./forms.ts";
import type { Traits } from "./gpu.ts";
import { packParams } from "./params.ts";
import type { KernelSpec } from "./wgsl.ts";

/** What every operation needs: how its rows are counted, and where its result is written. */
export interface Target {
  readonly rows: "tokens" | "outputs";
  readonly cols: number;
  readonly out: PlannedBuffer;
  /** Rows that `out` has room for; results in f16 depend on it. */
  readonly maxRows: number;
}

const THREADS = 64;
/** Threads of a workgroup that writes a row of f16. */
const ROW_THREADS = 256;
/** Threads of a norm's workgroup: as many as every device allows. */
const NORM_THREADS = 256;

/** Workgroups for a number of threads in proportion to the rows; null if the step has no rows. */
function threads(rows: Target["rows"], perRow: number) {
  return (step: StepShape) => {
    const count = rowCount(rows, step) * perRow;
    return count === 0 ? null : spread(Math.ceil(count / THREADS));
  };
}

/** Constants by which a kernel finds the columns of a view. */
function groupValues(name: string, { groups }: View) {
  return { [`${name}_SIZE`]: groups?.size ?? 0, [`${name}_STRIDE`]: groups?.stride ?? 0 };
}

/**
 * Constants and workgroups of a kernel that computes each value by itself. A thread computes one value, or four of q8.
 */
function byForm(form: Form, { rows, cols }: Target) {
  const values = {
    OUT_FORM: FORM_IDS[form],
    OUTPUTS: rows === "outputs",
    WORKGROUP: form === "f16" ? ROW_THREADS : THREADS,
  };
  if (form !== "f16") return { values, workgroups: threads(rows, form === "q8" ? cols / 4 : cols) };
  return {
    values,
    workgroups(step: StepShape) {
      const count = rowCount(rows, step);
      return count === 0 ? null : spread(count);
    },
  };
}

/** The variant of a library that reduces, chosen by the device's features. */
export function reduction({ subgroup }: Traits): "subgroup" | "shared" {
  // A subgroup as wide as the workgroup or wider would leave nothing to add up.
  return subgroup !== null && subgroup <= 128 ? "subgroup" : "shared";
}

interface NormWeight {
  readonly weight: PlannedBuffer | null;
  readonly epsilon: number;
}

export interface NormOptions extends Target {
  readonly x: PlannedBuffer;
  readonly groups: number;
  /** null: only the sum is needed. */
  readonly norm: NormWeight | null;
  readonly form: Form;
  /** The result in f32 in addition to `form`; null: not needed. */
  readonly plain: PlannedBuffer | null;
  readonly added: Pick<View, "buffer" | "splits"> | null;
  /** `added` is a mixture's [rows, count, cols], and is summed with the weights of the picks. */
  readonly combine: { readonly picks: PlannedBuffer; readonly count: number } | null;
  readonly addedNorm: NormWeight | null;
  /** The factor of the sum. */
  readonly factor: number;
  readonly sum: PlannedBuffer | null;
}

/**
 * Threads of a norm's workgroup, and vec4s of each thread. Splits are many loads, which should be in flight at the same
 * time: a row gets a thread for each pair of its vec4s.
 */
function normThreads({ threads = NORM_THREADS }: Traits, cols: number, splits: number) {
  const pairs = Math.ceil(cols / 8);
  let WORKGROUP = NORM_THREADS;
  while (splits > 1 && WORKGROUP < pairs && 2 * WORKGROUP <= threads) WORKGROUP *= 2;
  const EACH = splits === 1 ? 8 * Math.ceil(cols / 8192) : 2 * Math.ceil(pairs / WORKGROUP);
  return { WORKGROUP, EACH };
}

/**
 * x, added, sum, plain: f32 rows without gaps; `added` may be in splits. Bindings that a variant does not use get a
 * buffer that is only read, or `spare` and `unwritten`, because no buffer may be bound twice for writing.
 */
export function normDispatch(
  traits: Traits,
  options: NormOptions,
  spare: PlannedBuffer,
  unwritten: PlannedBuffer,
): Dispatch {
  const { x, rows, cols, groups, norm, added, combine, addedNorm, form, out } = options;
  const variant = reduction(traits);
  return {
    label: norm ? "rmsNorm" : "add",
    kernel: {
      kernel: "rmsNorm",
      libs: { workgroupSum: variant },
      values: {
        SUBGROUP: variant === "subgroup" ? traits.subgroup! : 1,
        HAS_ADD: added !== null,
        PICKS: combine?.count ?? 0,
        SPLITS: added?.splits?.count ?? 1,
        HAS_ADDED_NORM: addedNorm !== null,
        HAS_ADDED_WEIGHT: addedNorm !== null && addedNorm.weight !== null,
        HAS_NORM: norm !== null,
        HAS_WEIGHT: Boolean(norm?.weight),
        OUT_FORM: FORM_IDS[form],
        HAS_PLAIN: options.plain !== null,
        ...normThreads(traits, cols / groups, added?.splits?.count ?? 1),
        OUTPUTS: rows === "outputs",
      },
    },
    params: packParams("rmsNorm", {
      cols: cols / groups,
      epsilon: norm?.epsilon ?? 0,
      addedEpsilon: addedNorm?.epsilon ?? 0,
      factor: options.factor,
      groups,
      factorsAt: factorsAt(options.maxRows, cols) / 4,
      splitStride: (added?.splits?.stride ?? 0) / 4,
    }),
    buffers: {
      x,
      added: added?.buffer ?? x,
      weight: norm?.weight ?? x,
      addedWeight: addedNorm?.weight ?? x,
      sum: options.sum ?? spare,
      out,
      plain: options.plain ?? unwritten,
      picks: combine?.picks ?? x,
    },
    workgroups(step) {
      const count = rowCount(rows, step) * groups;
      return count === 0 ? null : spread(count);
    },
  };
}

/** Values of ACTIVATION in the kernels. */
export const ACTIVATION_IDS: Readonly<Record<Activation, number>> = {
  silu: 0,
  geluTanh: 1,
  sigmoid: 2,
  swigluOai: 3,
};

export interface GateOptions extends Target {
  readonly gate: View;
  readonly up: View;
  readonly activation: Activation;
  /** 0: no limit. */
  readonly limit: number;
  /** Columns of `up` that a value of `gate` covers. */
  readonly each: number;
  readonly form: Form;
}

export function gateDispatch(options: GateOptions): Dispatch {
  const { cols, out, maxRows, gate, up, activation, limit, each, form } = options;
  const { values, workgroups } = byForm(form, options);
  return {
    label: "gate",
    kernel: {
      kernel: "gate",
      values: {
        ...values,
        ACTIVATION: ACTIVATION_IDS[activation],
        EACH: each,
        ...groupValues("GATE", gate),
        ...groupValues("UP", up),
        GATE_SPLITS: gate.splits?.count ?? 1,
        UP_SPLITS: up.splits?.count ?? 1,
      },
    },
    params: packParams("gate", {
      cols,
      gateOffset: gate.offset,
      gateStride: gate.stride,
      upOffset: up.offset,
      upStride: up.stride,
      gateSplitStride: gate.splits?.stride ?? 0,
      upSplitStride: up.splits?.stride ?? 0,
      factorsAt: factorsAt(maxRows, cols),
      limit,
    }),
    buffers: { gate: gate.buffer, up: up.buffer, out },
    workgroups,
  };
}

export function addDispatch({ rows, cols, out }: Target, a: PlannedBuffer, b: PlannedBuffer): Dispatch {
  return {
    label: "add",
    kernel: { kernel: "add", values: { OUTPUTS: rows === "outputs" } },
    params: packParams("add", { cols }),
    buffers: { a, b, out },
    workgroups: threads(rows, cols),
  };
}

export function softcapDispatch({ rows, cols, out }: Target, x: PlannedBuffer, cap: number): Dispatch {
  return {
    label: "softcap",
    kernel: { kernel: "softcap", values: { OUTPUTS: rows === "outputs" } },
    params: packParams("softcap", { cols, cap }),
    buffers: { x, out },
    workgroups: threads(rows, cols),
  };
}

export function ropeDispatch(
  out: PlannedBuffer,
  x: PlannedBuffer,
  angles: PlannedBuffer,
  shape: RopeShape,
): Dispatch {
  const { heads, headDim, pairs } = shape;
  return {
    label: "rope",
    kernel: { kernel: "rope", values: {} },
    params: packParams("rope", { heads, headDim, pairs }),
    buffers: { x, angles, out },
    workgroups: threads("tokens", heads * headDim),
  };
}

/**
 * weight: for queries only. pairs: distance from the first number of a pair to the second; turnedPairs: the pairs that
 * RoPE rotates.
 */
export function takeTurnedDispatch(
  out: PlannedBuffer,
  x: PlannedBuffer,
  weight: PlannedBuffer | null,
  shape: RopeShape & { readonly turnedPairs: number },
): Dispatch {
  const { heads, headDim, turnedPairs } = shape;
  return {
    label: "takeTurned",
    kernel: { kernel: "takeTurned", values: { HAS_WEIGHT: weight !== null } },
    params: packParams("takeTurned", shape),
    buffers: { x, weight: weight ?? x, out },
    workgroups: threads("tokens", heads * (2 * turnedPairs + (weight ? headDim : 0))),
  };
}

export interface RopeShape {
  readonly heads: number;
  readonly headDim: number;
  readonly pairs: number;
}

export interface CopyOptions extends Target {
  /** The operation: "copy", "quantize", "slice", ... */
  readonly label: string;
  readonly x: View;
  readonly form: Form;
  /** Set for takeOutputs: only rows that are outputs are copied. */
  readonly batch?: PlannedBuffer;
  readonly factor?: number;
}

/** Copies rows of `x`: into another form, without gaps, some of its rows or columns, or times a factor. */
export function copyDispatch(options: CopyOptions): Dispatch {
  const { label, cols, out, maxRows, x, form, batch, factor } = options;
  const { values, workgroups } = byForm(form, options);
  const kernel: KernelSpec = {
    kernel: "copyRows",
    values: {
      ...values,
      TAKES: batch !== undefined,
      ...groupValues("X", x),
      SCALED: factor !== undefined,
    },
  };
  return {
    label,
    kernel,
    params: packParams("copyRows", {
      cols,
      offset: x.offset,
      stride: x.stride,
      factor: factor ?? 1,
      factorsAt: factorsAt(maxRows, cols),
    }),
    buffers: { x: x.buffer, out, batch: batch ?? x.buffer },
    workgroups,
  };
}

export interface CombineOptions extends Target {
  /** f32 rows without gaps. */
  readonly x: PlannedBuffer;
  readonly picks: PlannedBuffer;
  readonly count: number;
  readonly form: Form;
}

export function combineDispatch(options: CombineOptions): Dispatch {
  const { cols, out, maxRows, x, picks, count, form } = options;
  const { values, workgroups } = byForm(form, options);
  return {
    label: "combine",
    kernel: { kernel: "combine", values: { ...values, PICKS: count } },
    params: packParams("combine", { cols, factorsAt: factorsAt(maxRows, cols) }),
    buffers: { x, picks, out },
    workgroups,
  };
}
