/**
 * Numbers of a schema: their bounds and steps, as far as they are supported.
 */
import { atOnce } from "../../format/slices.ts";
import { badValue } from "../errors.ts";
import type { ObjectFields } from "../object-fields.ts";
import { oneOf, oneText } from "./choices.ts";
import { notKept } from "./keywords.ts";
import { multiplesBetween, multiplesRule, type Rules, stepOf } from "./multiples.ts";
import { LEAST_BOUND, MOST_BOUND, type NumberBounds, rangeRule } from "./ranges.ts";

/** The rules of numbers that a schema allows; an expression. Throws PlaceError. */
export function numberRule(fields: ObjectFields, type: "integer" | "number", rules: Rules): string {
  const bounds = boundsOf(fields);
  const step = fields.number("multipleOf", { low: Number.MIN_VALUE, high: Number.MAX_VALUE });
  // Every integer is a multiple of such a step.
  const isWhole = type === "integer" && step !== undefined && Number.isInteger(1 / step);
  if (step !== undefined && step !== 1 && !isWhole) return multiples(fields, type, step, bounds, rules);
  const kind = step === 1 ? "integer" : type;
  const [first] = Object.keys(bounds);
  if (first === undefined) return kind;
  const range = rangeRule(kind, bounds);
  if (range.length === 0)
    throw badValue(fields.place(first), "a bound that leaves no number", "bounds with numbers between");
  return rules.rule(oneOf(range, rules.rule));
}

function multiples(
  fields: ObjectFields,
  type: "integer" | "number",
  value: number,
  bounds: NumberBounds,
  rules: Rules,
): string {
  const step = stepOf(value);
  if (step === null || (type === "integer" && step.digits > 0))
    throw notKept(fields.place("multipleOf"), `of ${value}`);
  const { low, high } = limitsOf(bounds);
  const far = Number.MAX_SAFE_INTEGER;
  if (low > -far && high < far) {
    const { exclusiveMinimum: above, exclusiveMaximum: below } = bounds;
    const found = multiplesBetween(value, low, high);
    if (found === null)
      throw notKept(fields.place("multipleOf"), "together with bounds with more than 1000 multiples");
    const within = found.filter((text) => Number(text) !== above && Number(text) !== below);
    if (within.length === 0)
      throw badValue(
        fields.place("multipleOf"),
        `${value}, of which no multiple is within the bounds`,
        "one that has some",
      );
    return rules.rule(atOnce(oneText(within, rules.rule)));
  }
  const isFree = (bound: number, other: number) => bound === 0 || Math.abs(bound) >= Math.abs(other);
  if (!isFree(low, far) || !isFree(high, far))
    throw notKept(fields.place("multipleOf"), "together with one bound other than 0");
  const { zero, above } = multiplesRule(step, rules);
  const hasZero = bounds.exclusiveMinimum !== 0 && bounds.exclusiveMaximum !== 0;
  return rules.rule(
    oneOf(
      [...(hasZero ? [zero] : []), ...(high > 0 ? [above] : []), ...(low < 0 ? [`"-" ${above}`] : [])],
      rules.rule,
    ),
  );
}

const BOUNDS = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] as const;

function boundsOf(fields: ObjectFields): NumberBounds {
  const found = BOUNDS.flatMap((name) => {
    const value = fields.number(name, { low: -Number.MAX_VALUE, high: Number.MAX_VALUE });
    if (value === undefined) return [];
    if (value !== 0 && Math.abs(value) < LEAST_BOUND)
      throw fields.wrong(name, `0, or from ${LEAST_BOUND} on`);
    const isLower = name === "minimum" || name === "exclusiveMinimum";
    if (isLower ? value > MOST_BOUND : value < -MOST_BOUND)
      throw fields.wrong(name, isLower ? `up to ${MOST_BOUND}` : `from ${-MOST_BOUND} on`);
    // A bound farther out is replaced by a nearer one: the rule is narrower than the schema, never wider.
    return [[name, Math.min(MOST_BOUND, Math.max(-MOST_BOUND, value))] as const];
  });
  return Object.fromEntries(found);
}

function limitsOf({ minimum, exclusiveMinimum, maximum, exclusiveMaximum }: NumberBounds) {
  const low = Math.max(minimum ?? -MOST_BOUND, exclusiveMinimum ?? -MOST_BOUND);
  const high = Math.min(maximum ?? MOST_BOUND, exclusiveMaximum ?? MOST_BOUND);
  return { low, high };
}
