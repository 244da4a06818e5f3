import { expect, test } from "vitest";
import { prune } from "../../../src/device/webgpu/prune.ts";

const CONSTANTS = `const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
const HEAD_DIM: u32 = 64u;
const INT4: bool = false;
const CODED: bool = INT4 || GROUPS > 4u;
const SCALE: f32 = 0.5;
const LANES: u32 = select(0x10u, 8u, INT4);
`;

/** What becomes of a function's statements; lines are trimmed, empty ones left out. */
function pruned(statements: string): string[] {
  const text = prune(`${CONSTANTS}fn f() {\n${statements}\n}`);
  const lines = text.slice(CONSTANTS.length).split("\n");
  return lines
    .slice(1, -1)
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

test.each([
  ["a branch that never runs goes", "a();\nif (INT4) {\n  b();\n}\nc();", ["a();", "c();"]],
  ["one that always runs stays, as a block", "if (!INT4) {\nb();\n}", ["{", "b();", "}"]],
  ["on one line", "if (GROUPS > 2u) { b(); }\nc();", ["c();"]],
  ["else of a branch that never runs", "if (CODED) {\na();\n} else {\nb();\n}", ["{", "b();", "}"]],
  ["else of one that always runs", "if (GROUPS == 2u) {\na();\n} else {\nb();\n}", ["{", "a();", "}"]],
  [
    "else if",
    "if (INT4) {\na();\n} else if (x > 1u) {\nb();\n} else {\nc();\n}",
    ["if (x > 1u) {", "b();", "} else {", "c();", "}"],
  ],
  [
    "a known condition behind one that is not",
    "if (x > 1u) {\na();\n} else if (INT4) {\nb();\n}",
    ["if (x > 1u) {", "a();", "} else", "{}"],
  ],
  [
    "and with another branch after it",
    "if (x > 1u) {\na();\n} else if (INT4) {\nb();\n} else {\nc();\n}",
    ["if (x > 1u) {", "a();", "} else", "{", "c();", "}"],
  ],
  ["a part that decides", "if (INT4 && x > 1.5) {\na();\n}", []],
  ["a part that does not", "if (INT4 || x > 1u) {\na();\n}", ["if (INT4 || x > 1u) {", "a();", "}"]],
  ["within a branch that is not known", "if (x) {\nif (INT4) {\na();\n}\n}", ["if (x) {", "}"]],
  ["within one that stays", "if (!INT4) {\nif (INT4) {\na();\n}\nb();\n}", ["{", "b();", "}"]],
  ["fractions are not known", "if (SCALE < 1.0) {\na();\n}", ["if (SCALE < 1.0) {", "a();", "}"]],
  [
    "functions of constants",
    "if (max(LANES, 4u) % 16u == 0u && 1u << 2u == 4u) {\na();\n}",
    ["{", "a();", "}"],
  ],
  ["names that are not declared", "if (OTHER == 1u) {\na();\n}", ["if (OTHER == 1u) {", "a();", "}"]],
  [
    "comments are no code",
    "// if (INT4) {\na(); // if (INT4) { }",
    ["// if (INT4) {", "a(); // if (INT4) { }"],
  ],
  ["braces in comments", "if (INT4) {\n// }\na();\n}\nb();", ["b();"]],
])("%s", (_, statements, expected) => {
  expect(pruned(statements)).toEqual(expected);
});

test("lines keep their numbers", () => {
  const text = `${CONSTANTS}fn f() {\n  if (INT4) {\n    a();\n  } else {\n    b();\n  }\n  c();\n}`;
  const lineOf = (of: string, part: string) => of.slice(0, of.indexOf(part)).split("\n").length;
  for (const part of ["b();", "c();"]) expect(lineOf(prune(text), part)).toBe(lineOf(text, part));
});

test("a constant that names itself is unknown", () => {
  const text = "const A: u32 = B;\nconst B: u32 = A;\nfn f() {\n  if (A == 1u) {\n    a();\n  }\n}";
  expect(prune(text)).toBe(text);
});
