import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/format/errors.ts";
import { parseJson } from "../../src/format/json.ts";

describe("parseJson", () => {
  it("parses what JSON.parse parses, however it is spaced", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), fc.constantFrom(undefined, 1, "\t"), (value, space) => {
        const text = JSON.stringify(value, null, space);
        expect(parseJson(text, "here")).toEqual(JSON.parse(text));
      }),
    );
  });

  it("throws nothing but FormatError, whatever the text", () => {
    const text = fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...'{}[]":,\\u0 a') }));
    fc.assert(
      fc.property(text, (bad) => {
        try {
          parseJson(bad, "here");
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it.each([
    ['{"a":1,"a":2}', /here: the name "a" twice in one JSON object/],
    ['[{"x":{"a":1, "b":2, "\\u0061" : 2}}]', /the name "a" twice/],
    [`${"[".repeat(65)}${"]".repeat(65)}`, /JSON nested 65 deep; allowed: 64/],
    ["{", /here: invalid JSON/],
    ["", /here: invalid JSON/],
    ['{"\\x":1}', /here: invalid JSON/],
  ])("refuses %s", (text, message) => {
    expect(() => parseJson(text, "here")).toThrow(FormatError);
    expect(() => parseJson(text, "here")).toThrow(message);
  });

  it("lets one name stand in two objects, and names within strings", () => {
    expect(parseJson('{"a":{"a":"\\"a\\": 1"},"b":["a","a",{"a":1}]}', "here")).toEqual({
      a: { a: '"a": 1' },
      b: ["a", "a", { a: 1 }],
    });
  });
});
