/**
 * A step's dispatches -> parts, each for a submit of its own that is over before a driver's watchdog stops it (macOS allows
 * some 5 s, Windows 2, and both less where they draw). Owns the estimate: work by kind, and how much of it a millisecond did so
 * far. Between layers a step may be cut anywhere; attention of many rows over a long context is cut by rows. Pure.
 */
import type { Batch } from "./batch.ts";
import type { Dispatch, StepShape } from "./dispatch.ts";
import { type Unit, unitsOf } from "./units.ts";

/** Longest part, by estimate. A short one costs some 50 us, and the screen waits for a long one. */
export const SUBMIT_MS = 300;

/** Dispatches of a prompt's first part: the GPU works on them while the host encodes the rest, some 2 ms for 300. */
const EARLY_JOBS = 24;

export interface SubmitPart<T> {
  readonly jobs: readonly T[];
  /** Of its one job, which attends, the rows; null: all. */
  readonly units: readonly Unit[] | null;
  /** By estimate. */
  readonly ms: number;
  /** The estimate by kind of work. */
  readonly kinds: ReadonlyMap<string, number>;
}

interface HasDispatch {
  readonly dispatch: Pick<Dispatch, "label" | "workgroups" | "bytes">;
}

/**
 * Bytes in a millisecond, or with many rows bytes times rows, where nothing is known yet: of a slow GPU. A fast one is found
 * out in a few parts, each of which may be twice as large as the one before.
 */
const FIRST_RATES = { few: 1e7, product: 1e8, attend: 1e7 };
/** A rate is known after N parts. */
const KNOWN = 8;
const MOST_RISE = 2;
const MOST_FALL = 8;
/** What a host measures is no shorter. */
const LEAST_MS = 0.5;

/** How fast each kind of work goes on a device, from the time that parts took. */
export class WorkRates {
  readonly #rates = new Map<string, { rate: number; times: number }>();

  /** Milliseconds of `work` by estimate. */
  ms(kind: string, work: number): number {
    return work / this.#rate(kind).rate;
  }

  /** Whether all kinds of a part were measured often enough that the next need not wait for it. */
  knows({ kinds }: Pick<SubmitPart<unknown>, "kinds">): boolean {
    return [...kinds.keys()].every((kind) => this.#rate(kind).times >= KNOWN);
  }

  /**
   * A part took `ms`: rates of its kinds change by their share of it. Down at once, up by steps: the host may have seen the
   * end of the part before late, and too long an estimate costs little.
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

/** By label; made once, since a step asks some hundred times. */
const KINDS = { few: new Map<string, string>(), many: new Map<string, string>() };

function kindOf(label: string, isMany: boolean): string {
  const known = isMany ? KINDS.many : KINDS.few;
  let kind = known.get(label);
  if (kind === undefined) known.set(label, (kind = `${isMany ? "many" : "few"} ${label}`));
  return kind;
}

/** The step's parts one after another, at least one; each is cut when it is asked for, by what is known then. */
export function* submitPartsOf<T extends HasDispatch>(
  list: readonly T[],
  { mode, shape, longs }: Pick<Batch, "mode" | "shape" | "longs">,
  pace: WorkRates,
  most: number,
): Generator<SubmitPart<T>> {
  const isMany = mode === "prompt";
  const units = isMany ? unitsOf(longs) : [];
  let jobs: T[] = [];
  let kinds = new Map<string, number>();
  let ms = 0;
  let count = 0;
  const taken = (): SubmitPart<T> => {
    count++;
    const part = { jobs, units: null, ms, kinds };
    [jobs, kinds, ms] = [[], new Map(), 0];
    return part;
  };
  for (const job of list) {
    const { dispatch } = job;
    if (dispatch.workgroups(shape) === null) continue;
    const kind = kindOf(dispatch.label, isMany);
    const attends = isMany && dispatch.label === "attendPrompt";
    const workOf = (unit: Unit) => unit.tokens * (dispatch.bytes?.({ ...shape, longs: [unit] }) ?? 0);
    const work = attends
      ? units.reduce((sum, unit) => sum + workOf(unit), 0)
      : (dispatch.bytes?.(shape) ?? 0) * (isMany ? shape.tokens : 1);
    const own = pace.ms(kind, work);
    const isEarly = isMany && count === 0 && jobs.length === EARLY_JOBS;
    if ((isEarly || ms + own > most) && jobs.length > 0) yield taken();
    if (attends && own > most && units.length > 1) {
      count++;
      yield* unitParts(job, kind, units, (unit) => pace.ms(kind, workOf(unit)), most);
      continue;
    }
    jobs.push(job);
    ms += own;
    if (own > 0) kinds.set(kind, (kinds.get(kind) ?? 0) + own);
  }
  if (jobs.length > 0 || count === 0) yield taken();
}

function* unitParts<T>(
  job: T,
  kind: string,
  units: readonly Unit[],
  msOf: (unit: Unit) => number,
  most: number,
): Generator<SubmitPart<T>> {
  for (let from = 0; from < units.length; ) {
    let ms = msOf(units[from]);
    let to = from + 1;
    for (; to < units.length; to++) {
      const more = msOf(units[to]);
      if (ms + more > most) break;
      ms += more;
    }
    yield { jobs: [job], units: units.slice(from, to), ms, kinds: new Map([[kind, ms]]) };
    from = to;
  }
}

/** The step as a part with units sees it. */
export function shapeOf(shape: StepShape, { units }: Pick<SubmitPart<unknown>, "units">): StepShape {
  return units ? { ...shape, longs: units } : shape;
}
