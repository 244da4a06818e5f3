/** Scales from values to coordinates, and the positions of their ticks. Pure. */

export type Scale = (value: number) => number;

/** A single value is placed in the middle. */
export function linearScale(low: number, high: number, from: number, to: number): Scale {
  if (low === high) return () => (from + to) / 2;
  return (value) => from + ((to - from) * (value - low)) / (high - low);
}

/** For values above 0. */
export function logScale(low: number, high: number, from: number, to: number): Scale {
  const place = linearScale(Math.log(low), Math.log(high), from, to);
  return (value) => place(Math.log(value));
}

/** Ticks are 1, 2 and 5 times powers of ten. */
const STEPS = [1, 2, 5];
const CLOSE = 1e-9;

/** The largest tick at or below the value. */
export function stepBelow(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [...STEPS].reverse().find((step) => step * power <= value * (1 + CLOSE))!;
}

/** The smallest tick above the value. */
export function stepAbove(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * (STEPS.find((step) => step * power > value) ?? 10);
}

/** Ticks of a logarithmic axis: all steps if they are few, powers of ten otherwise. */
export function logTicks(low: number, high: number, most = Number.POSITIVE_INFINITY): number[] {
  const of = (steps: readonly number[]) => {
    const ticks: number[] = [];
    for (let exponent = Math.floor(Math.log10(low)); 10 ** exponent <= high * (1 + CLOSE); exponent++)
      for (const step of steps) {
        const value = step * 10 ** exponent;
        if (value >= low * (1 - CLOSE) && value <= high * (1 + CLOSE)) ticks.push(value);
      }
    return ticks;
  };
  const all = of(STEPS);
  return all.length <= most ? all : of([1]);
}

/** Ticks of a linear axis, at most. */
const MOST_TICKS = 8;

/** Ticks of a linear axis: round values. */
export function linearTicks(low: number, high: number): number[] {
  if (!(high > low)) return [low];
  let step = stepBelow((high - low) / MOST_TICKS);
  while ((high - low) / step > MOST_TICKS) step = stepAbove(step);
  const first = Math.ceil(low / step - CLOSE);
  const last = Math.floor(high / step + CLOSE);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}
