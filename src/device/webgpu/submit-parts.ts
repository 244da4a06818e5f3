/**
 * Divides a step's dispatches into parts. Each part is a submit that ends before a driver's watchdog would stop it
 * (macOS allows some 5 s, Windows 2, and both less while they draw). Its length is an estimate: the work of each kind,
 * divided by how much of that kind a millisecond did so far. A step may be cut between any two dispatches; attention of
 * many rows over a long context is also cut by rows. Pure.
 */
import type { Batch } from "./batch.ts";
import type { Dispatch, StepShape, Workgroups } from "./dispatch.ts";
import { type Unit, unitsOf } from "./units.ts";

/** Longest part, by estimate. A short one costs some 50 us, and nothing is drawn on the screen during a long one. */
export const SUBMIT_MS = 300;

/** Dispatches of a prompt's first part: the GPU works on them while the host encodes the rest, some 2 ms for 300. */
const EARLY_JOBS = 24;

export interface SubmitPart<T> {
  readonly jobs: readonly T[];
  /** Of each job, so that they are worked out once a step; null: those of the part's units. */
  readonly workgroups: readonly Workgroups[] | null;
  /** The rows that the part's only job, an attention, computes; null: all rows. */
  readonly units: readonly Unit[] | null;
  /** Estimated time. */
  readonly ms: number;
  /** Estimated time by kind of work. */
  readonly kinds: ReadonlyMap<string, number>;
}

interface HasDispatch {
  readonly dispatch: Pick<Dispatch, "label" | "workgroups" | "bytes">;
}

/**
 * Rates before anything is measured, those of a slow GPU: bytes per millisecond, or with many rows bytes times rows.
 * The rates of a fast GPU are found within a few parts, because each part may be twice as large as the one before.
 */
const FIRST_RATES = { few: 1e7, product: 1e8, attend: 1e7 };
/** A rate is known after this many parts. */
const KNOWN = 8;
const MOST_RISE = 2;
const MOST_FALL = 8;
/** Shorter times are measured too imprecisely and count as this. */
const LEAST_MS = 0.5;

/** The rate of each kind of work on a device, from the time that parts took. */
export class WorkRates {
  readonly #rates = new Map<string, { rate: number; times: number }>();

  /** Estimated milliseconds of `work`. */
  ms(kind: string, work: number): number {
    return work / this.#rate(kind).rate;
  }

  /** Whether all kinds of a part were measured often enough that the next part need not wait for it. */
  knows({ kinds }: Pick<SubmitPart<unknown>, "kinds">): boolean {
    return [...kinds.keys()].every((kind) => this.#rate(kind).times >= KNOWN);
  }

  /**
   * Corrects the rates of a part's kinds after the part took `ms`, each by its share of the estimate. Rates fall at
   * once and rise in steps: the host may have seen the end of the previous part late, and an estimate that is too long
   * costs little.
   */
  took({ ms: estimate, kinds }: Pick<SubmitPart<unknown>, "ms" | "kinds">, ms: number): void {
    if (estimate <= 0) return;
    const change = Math.min(MOST_RISE, Math.max(1 / MOST_FALL, estimate / Math.max(LEAST_MS, ms)));
    for (const [kind, part] of kinds) {
      const known = this.#rate(kind);
      known.rate *= change ** (part / estimate);
      known.times++;
    }
  }

  #rate(kind: string) {
    let known = this.#rates.get(kind);
    if (!known) {
      const rate =
        FIRST_RATES[kind.startsWith("few ") ? "few" : kind.includes("attend") ? "attend" : "product"];
      known = { rate, times: 0 };
      this.#rates.set(kind, known);
    }
    return known;
  }
}

/** Kinds by label. They are made once, because a step asks for some hundred. */
const KINDS = { few: new Map<string, string>(), many: new Map<string, string>() };

function kindOf(label: string, isMany: boolean): string {
  const known = isMany ? KINDS.many : KINDS.few;
  let kind = known.get(label);
  if (kind === undefined) known.set(label, (kind = `${isMany ? "many" : "few"} ${label}`));
  return kind;
}

/** The parts of a step in order, at least one. Each part is cut when it is requested, with the rates known by then. */
export function* submitPartsOf<T extends HasDispatch>(
  list: readonly T[],
  { mode, shape, longs }: Pick<Batch, "mode" | "shape" | "longs">,
  pace: WorkRates,
  most: number,
): Generator<SubmitPart<T>> {
  const isMany = mode === "prompt";
  const units = isMany ? unitsOf(longs) : [];
  let jobs: T[] = [];
  let workgroups: Workgroups[] = [];
  let kinds = new Map<string, number>();
  let ms = 0;
  let count = 0;
  const taken = (): SubmitPart<T> => {
    count++;
    const part = { jobs, workgroups, units: null, ms, kinds };
    [jobs, workgroups, kinds, ms] = [[], [], new Map(), 0];
    return part;
  };
  // No iterator, no function and nothing captured for each of some hundred dispatches: it would be garbage in each step.
  for (let i = 0; i < list.length; i++) {
    const job = list[i];
    const { dispatch } = job;
    const size = dispatch.workgroups(shape);
    if (size === null) continue;
    const kind = kindOf(dispatch.label, isMany);
    const attends = isMany && dispatch.label === "attendPrompt";
    const work = attends
      ? unitsWork(job, shape, units)
      : (dispatch.bytes?.(shape) ?? 0) * (isMany ? shape.tokens : 1);
    const own = pace.ms(kind, work);
    const isEarly = isMany && count === 0 && jobs.length === EARLY_JOBS;
    if ((isEarly || ms + own > most) && jobs.length > 0) yield taken();
    if (attends && own > most && units.length > 1) {
      count++;
      yield* unitsApart(job, { kind, units, shape }, pace, most);
      continue;
    }
    jobs.push(job);
    workgroups.push(size);
    ms += own;
    if (own > 0) kinds.set(kind, (kinds.get(kind) ?? 0) + own);
  }
  if (jobs.length > 0 || count === 0) yield taken();
}

const unitsWork = (job: HasDispatch, shape: StepShape, units: readonly Unit[]) =>
  units.reduce((sum, unit) => sum + unitWork(job, shape, unit), 0);

function unitWork({ dispatch }: HasDispatch, shape: StepShape, unit: Unit): number {
  return unit.tokens * (dispatch.bytes?.({ ...shape, longs: [unit] }) ?? 0);
}

function* unitsApart<T extends HasDispatch>(
  job: T,
  { kind, units, shape }: { kind: string; units: readonly Unit[]; shape: StepShape },
  pace: WorkRates,
  most: number,
): Generator<SubmitPart<T>> {
  const msOf = (unit: Unit) => pace.ms(kind, unitWork(job, shape, unit));
  for (let from = 0; from < units.length; ) {
    let ms = msOf(units[from]);
    let to = from + 1;
    for (; to < units.length; to++) {
      const more = msOf(units[to]);
      if (ms + more > most) break;
      ms += more;
    }
    const kinds = new Map([[kind, ms]]);
    yield { jobs: [job], workgroups: null, units: units.slice(from, to), ms, kinds };
    from = to;
  }
}

/** The step's shape for a part: if the part has units, they are its `longs`. */
export function shapeOf(shape: StepShape, { units }: Pick<SubmitPart<unknown>, "units">): StepShape {
  return units ? { ...shape, longs: units } : shape;
}
