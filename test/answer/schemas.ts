/** Schemas at random. */
import fc from "fast-check";

const range = (low: string, high: string, most: number) =>
  fc.oneof(
    fc.constant({}),
    fc.tuple(fc.nat(most), fc.nat(most)).map(([a, b]) => ({ [low]: Math.min(a, b), [high]: Math.max(a, b) })),
    fc.nat(most).map((a) => ({ [high]: a })),
    fc.nat(3).map((a) => ({ [low]: a })),
  );
const bounds = (value: fc.Arbitrary<number>) =>
  fc.oneof(
    fc.constant({}),
    value.map((minimum) => ({ minimum })),
    value.map((maximum) => ({ maximum })),
    value.map((exclusiveMinimum) => ({ exclusiveMinimum })),
    value.map((exclusiveMaximum) => ({ exclusiveMaximum })),
    fc.tuple(value, value).map(([a, b]) => ({ minimum: Math.min(a, b), maximum: Math.max(a, b) })),
  );
const names = fc.uniqueArray(fc.constantFrom("a", "b", "long name", 'q"uo\\te', "é"), { maxLength: 3 });
/** Schemas at random, of what is kept. */
export const { schema } = fc.letrec<{ schema: Record<string, unknown> }>((tie) => ({
  schema: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.constantFrom({ type: "boolean" }, { type: "null" }, { type: ["string", "null"] }),
    bounds(fc.integer({ min: -1000, max: 1000 })).map((more) => ({ type: "integer", ...more })),
    bounds(fc.constantFrom(-2.5, -1, 0, 0.25, 3, 17.5, 1000)).map((more) => ({ type: "number", ...more })),
    range("minLength", "maxLength", 6).map((more) => ({ type: "string", ...more })),
    fc.constantFrom("date", "time", "uuid", "date-time", "no-format").map((format) => ({
      type: "string",
      format,
    })),
    fc
      .uniqueArray(fc.oneof(fc.integer(), fc.string({ maxLength: 4 }), fc.constant(null)), {
        minLength: 1,
        maxLength: 4,
      })
      .map((all) => ({ enum: all })),
    fc.jsonValue({ maxDepth: 2 }).map((value) => ({ const: value })),
    fc
      .tuple(tie("schema"), range("minItems", "maxItems", 4))
      .map(([items, more]) => ({ type: "array", items, ...more })),
    fc
      .tuple(tie("schema"), tie("schema"))
      .map((prefixItems) => ({ type: "array", prefixItems, items: false, minItems: 2 })),
    fc
      .tuple(names, fc.array(tie("schema"), { minLength: 3, maxLength: 3 }), fc.nat(7))
      .map(([keys, all, bits]) => ({
        type: "object",
        properties: Object.fromEntries(keys.map((key, i) => [key, all[i]])),
        required: keys.filter((_, i) => (bits >> i) & 1),
        additionalProperties: false,
      })),
    fc.array(tie("schema"), { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
  ) as fc.Arbitrary<Record<string, unknown>>,
}));
