/** A spec as the values of its factors: the form that the posterior and the table of effects use. */
import type { Levels } from "./posterior.ts";
import type { Part, Spec } from "./types.ts";

export const FACTORS = [
  ...["keys", "keys' group", "keys rotated", "keys less mean"],
  ...["values", "values' group", "values rotated", "sinks", "newest", "model"],
] as const;

const method = ({ method, bits }: Part) => (method === "affine" ? `int${bits}` : `${method} ${bits}`);

export function levelsOf(spec: Spec, model: string): Levels {
  const { keys, values, sinks, recent } = spec;
  return [
    ...[method(keys), String(keys.group), String(keys.rotate), String(keys.mean)],
    ...[method(values), String(values.group), String(values.rotate), String(sinks), String(recent), model],
  ];
}
