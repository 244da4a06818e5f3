/** JSON with pauses: what JSON.parse takes and makes, within bounds, and never long at once. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ApiError } from "../../src/app/api/errors.ts";
import { BODY_BOUNDS, readJson } from "../../src/app/api/json-reader.ts";
import { atOnce } from "../../src/format/slices.ts";

const read = (text: string, bounds = BODY_BOUNDS) => atOnce(readJson(text, bounds));

/** Of both: the value written again, or that there is none. */
function same(text: string): void {
  let wanted: unknown;
  let isJson = true;
  try {
    wanted = JSON.parse(text);
  } catch {
    isJson = false;
  }
  if (!isJson) return expect(() => read(text), text).toThrow(ApiError);
  const found = read(text);
  expect(found).toEqual(wanted);
  // The order of names, too.
  expect(JSON.stringify(found)).toBe(JSON.stringify(wanted));
}

describe("what JSON.parse takes, and nothing else", () => {
  it.each([
    ...[
      "",
      " ",
      "null",
      "true",
      "false",
      '""',
      "0",
      "-0",
      "1e5",
      "-1.5E-3",
      "1E400",
      "[]",
      "{}",
      " [ ] ",
      "\t{\r}\n",
    ],
    ...[
      "01",
      "1.",
      ".5",
      "+1",
      "--1",
      "1e",
      "0x1",
      "NaN",
      "Infinity",
      "nul",
      "nulll",
      "truefalse",
      "tru",
      "undefined",
    ],
    ...[
      "[1,]",
      "[,1]",
      "[1 2]",
      "{a:1}",
      "{'a':1}",
      '{"a"}',
      '{"a":}',
      '{"a":1,}',
      '{"a":1 "b":2}',
      "[",
      "{",
      '{"a":[}',
    ],
    ...[
      '"',
      '"\\',
      '"\\"',
      '"\\x"',
      '"\\u12"',
      '"\n"',
      '"\u0000"',
      '"a" "b"',
      "[]]",
      "{}{}",
      '["a]',
      '"\\\\"',
      '"\\\\\\""',
    ],
    ...[
      '{"a":1,"a":2,"b":3}',
      '{"__proto__":{"x":1}}',
      '{"10":1,"9":2,"a":3}',
      '{"":0}',
      "\ufeff{}",
      "/**/1",
      "[1]//",
    ],
    ...[
      '"\\ud83d\\ude00 \\ud83d é 日 \u2028"',
      '{"a":{"b":[[],{},[{}]]}}',
      '"\\/\\b\\f\\n\\r\\t"',
      "1,2",
      ":",
      "}",
      "]",
    ],
  ])("%j", same);

  it("any value, and any change of its text", () => {
    const spaced = fc.tuple(fc.jsonValue(), fc.constantFrom(0, 2, "\t"));
    fc.assert(
      fc.property(
        spaced,
        fc.nat(),
        fc.constantFrom("", ",", "}", "]", '"', "\\", "1", "-", "e", " "),
        ([value, blanks], at, more) => {
          const text = JSON.stringify(value, null, blanks);
          same(text);
          const place = at % (text.length + 1);
          same(text.slice(0, place) + more + text.slice(place));
          same(text.slice(0, place) + more + text.slice(place + 1));
        },
      ),
      { numRuns: 500, seed: 1 },
    );
  });

  it("long texts, which are read in pieces, wherever their escapes stand", () => {
    const length = 2 ** 17;
    for (const part of ["\\n", "\\u00e9", "a", "é", "\\\\", '\\"', "😀", "\\ud83d\\ude00", "abc\\u0041\\\\"])
      for (const before of ["", "x", "xyz"])
        same(
          JSON.stringify([1]).replace(
            "1",
            `"${before}${part.repeat(Math.ceil((2.2 * length) / part.length))}"`,
          ),
        );
    same(`"${"a".repeat(3 * length)}\n"`);
    same(`"${"\\n".repeat(length)}\\q${"\\n".repeat(length)}"`);
  });
});

it("names the place of what is wrong", () => {
  expect(() => read('{"a": tru}')).toThrow('the body is no JSON: at character 6 it goes on with "tru}"');
  expect(() => read('{"a": 1')).toThrow("the body is no JSON: at character 7 it ends early");
  expect(() => read('{"a": "b')).toThrow("the body is no JSON: at character 8 it ends early");
});

it("has bounds on depth and on objects, none on values", () => {
  const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
  same(nested(64));
  expect(() => read(nested(65))).toThrow("the body nests deeper than 64 levels");
  same(`[${"{},".repeat(19_998)}{}]`);
  expect(() => read(`[${"{},".repeat(19_999)}{}]`)).toThrow("the body has more than 20000 objects and lists");
  same(`[${"1,".repeat(100_000)}1]`);
});

it("can be left often: after a thousand values, or 131,072 characters of a text", () => {
  const pauses = (text: string) => {
    const work = readJson(text, BODY_BOUNDS);
    let count = 0;
    while (!work.next().done) count++;
    return count;
  };
  expect(pauses(`[${"1,".repeat(100_000)}1]`)).toBeGreaterThanOrEqual(100);
  expect(pauses(`[${"{},".repeat(19_000)}1]`)).toBeGreaterThanOrEqual(19);
  expect(pauses(`"${"a".repeat(2 ** 20)}"`)).toBeGreaterThanOrEqual(7);
  expect(pauses(`"${"\\n".repeat(2 ** 20)}"`)).toBeGreaterThanOrEqual(15);
});
