/** What the planner's fields may hold: contexts along a slider, types of weights, the order of formats. */
const SHORTEST = 1024;

/** Contexts of a slider: eight to a doubling, in multiples of 256, up to the trained one. */
export function contextSteps(trainedContext: number): number[] {
  const steps = new Set<number>();
  for (let i = 0; ; i++) {
    const tokens = Math.round((SHORTEST * 2 ** (i / 8)) / 256) * 256;
    if (tokens >= trainedContext) break;
    steps.add(tokens);
  }
  return [...steps, trainedContext];
}

/** The step that is closest to a context. */
export function stepOf(steps: readonly number[], context: number): number {
  const off = (i: number) => Math.abs(Math.log(steps[i] / context));
  return steps.reduce((best, _, i) => (off(i) < off(best) ? i : best), 0);
}

/** Types of weights, as `plannedModel` takes them, with names for the page. */
export const WEIGHT_TYPES: readonly (readonly [type: string, name: string])[] = [
  ["q4_0", "4-bit (q4_0)"],
  ["q4_k_m", "4-bit (q4_k_m)"],
  ["q8_0", "8-bit (q8_0)"],
  ["f16", "16-bit (f16)"],
];

const FORMAT_ORDER = ["kv4", "kv3", "int4", "rq4", "f16"];

/** Packed formats, then the others by size: tables come with the chosen one first. */
export function byFormat<Row extends { readonly name: string }>(rows: readonly Row[]): Row[] {
  const place = ({ name }: Row) =>
    (FORMAT_ORDER.indexOf(name) + FORMAT_ORDER.length + 1) % (FORMAT_ORDER.length + 1);
  return [...rows].sort((a, b) => place(a) - place(b));
}
