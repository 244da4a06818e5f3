/** Schemas as client libraries write them: all that a grammar of one lets through, the library takes. */
import { afterAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { jsonSchemaOf } from "../../src/answer/schema.ts";
import { accepts, grammars, walk } from "./grammars.ts";

afterAll(() => grammars.close());

const KEYS = z.enum(["a", "b"]);
const SCHEMAS: Readonly<Record<string, z.ZodType>> = {
  int: z.int(),
  positive: z.number().positive(),
  nonnegative: z.int().nonnegative(),
  int32: z.int32(),
  uint32: z.uint32(),
  float32: z.float32(),
  "multiples of 0.01": z.number().multipleOf(0.01),
  "multiples of 0.25": z.number().multipleOf(0.25).nonnegative(),
  "multiples of 5": z.int().multipleOf(5),
  "multiples of 12 in bounds": z.int().multipleOf(12).min(-30).max(30),
  "negative multiples of 7": z.int().multipleOf(7).negative(),
  record: z.record(z.string(), z.int()),
  "record of keys": z.record(KEYS, z.int()),
  "record of some keys": z.partialRecord(KEYS, z.int()),
  "record of a pattern": z.record(z.string().regex(/^[a-z]{2,4}$/), z.boolean()),
  "record of short names": z.record(z.string().min(1).max(3), z.null()),
  email: z.email(),
  "email with a length": z.email().min(5),
  uuid: z.uuid(),
  guid: z.guid(),
  "uuid v4": z.uuidv4(),
  url: z.url(),
  datetime: z.iso.datetime(),
  "datetime with an offset": z.iso.datetime({ offset: true }),
  "local datetime": z.iso.datetime({ local: true }),
  date: z.iso.date(),
  time: z.iso.time(),
  ipv4: z.ipv4(),
  base64url: z.base64url(),
  nanoid: z.nanoid(),
  ulid: z.ulid(),
  e164: z.e164(),
  "a beginning": z.string().startsWith("ab"),
  never: z.object({ a: z.never().optional(), b: z.int().max(9) }),
  union: z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("a"), x: z.int() }),
    z.object({ kind: z.literal("b") }),
  ]),
};

describe("zod", () => {
  it.each(Object.entries(SCHEMAS))("%s", async (_name, schema) => {
    const json = jsonSchemaOf(schema, "s");
    let ended = 0;
    for (let seed = 0; seed < 2; seed++) {
      const text = await walk(json, seed);
      if (text === null) continue;
      ended++;
      const { success, error } = schema.safeParse(JSON.parse(text));
      expect({ text, success, error }).toEqual({ text, success: true, error: undefined });
    }
    expect(ended).toBeGreaterThan(0);
  });
});

const TEXTS: readonly [name: string, right: readonly string[], wrong: readonly string[]][] = [
  ["multiples of 0.01", ["0", "1.5", "-3.25", "10", "0.01"], ["0.001", "-0", "1.234", ".5"]],
  ["multiples of 0.25", ["0", "0.25", "7.5", "12"], ["0.2", "-1", "0.255"]],
  ["multiples of 5", ["0", "5", "-10", "125"], ["3", "-0", "05", "5.0"]],
  ["multiples of 12 in bounds", ["-24", "-12", "0", "12", "24"], ["36", "-36", "6"]],
  ["negative multiples of 7", ["-7", "-14", "-700"], ["0", "7", "-8"]],
  ["record", ["{}", '{"x":1,"y":-2}'], ['{"x":1.5}', '{"x": 1}']],
  ["record of keys", ['{"a":1,"b":2}'], ["{}", '{"a":1}', '{"a":1,"b":2,"c":3}']],
  ["record of some keys", ["{}", '{"a":1}', '{"b":2}'], ['{"c":3}']],
  ["record of a pattern", ["{}", '{"ab":true}'], ['{"a":true}', '{"A1":true}']],
  ["email", ['"ada.l+x@mail.example.org"'], ['"a@b"', '"a b@c.de"', '".a@b.cd"']],
  ["url", ['"https://example.org/a?b=1#c"', '"http://localhost:8080"'], ['"example.org"', '"http://"']],
  ["datetime", ['"2024-02-29T23:59:59Z"'], ['"2023-02-29T00:00:00Z"', '"2024-02-29"']],
];

it.each(TEXTS)("%s: what is taken and what is not", async (name, right, wrong) => {
  const json = jsonSchemaOf(SCHEMAS[name], "s");
  for (const text of right) expect({ text, is: await accepts(json, text) }).toEqual({ text, is: true });
  for (const text of wrong) expect({ text, is: await accepts(json, text) }).toEqual({ text, is: false });
});
