/**
 * Attention with subgroup matrices without subgroups, matrices and f16, for a GPU in software: all become plain WGSL, text for
 * text. A lane of 32 has row lane / 2 of a left matrix, and of right ones and results a half or a quarter of the columns.
 * Matrices live in private memory, one for each place of the text that loads one. Lanes have another order than the invocations: of
 * different values that lanes store in one place, this GPU keeps the last invocation's, an H200 that of the first lane of the last
 * eight, so that what depends on it shows.
 */

/** The text of attendDecodeMatrix, attendPromptMatrix, matmulBatch or matmulMatrix with its libraries, for a device without features. */
export function emulatedSubgroups(given: string): string {
  const text = withoutNesting(given);
  const columns = Number(/alias Right = subgroup_matrix_right<f16, (\d+)/.exec(text)![1]);
  // Queries of the prompt's kernel come from one place each piece; right ones of attendDecodeWide from 18.
  const slots = { Left: 18, Right: 0 };
  const helpers = new Map<string, string>();
  const load = (_: string, type: string, order: string, array: string) => {
    const name = `load${type}${order}_${array}`;
    if (type === "Result") {
      helpers.set(name, loadResult(name, array, columns));
      return `${name}(`;
    }
    helpers.set(name, loadOperand(name, type as "Left" | "Right", order, array, columns));
    return `${name}(${slots[type as "Left" | "Right"]++}u, `;
  };
  const store = (_: string, order: string, array: string) => {
    const name = `store${order}_${array}`;
    const isFloats = new RegExp(`\\b${array}: array<f32>`).test(text);
    helpers.set(name, storeResult(name, isFloats ? "floats" : order, array, columns));
    return `${name}(`;
  };
  const plain = withoutCodes(text, helpers)
    .replace(/^diagnostic.*$/m, "")
    .replace(/^alias (Left|Right) = subgroup_matrix.*$/gm, "alias $1 = u32;")
    .replace(/^alias Result = subgroup_matrix.*$/m, `alias Result = array<vec4<f32>, ${columns / 8}>;`)
    .replace(/subgroupMatrixLoad<(\w+), (row|col)_major>\(\s*&(\w+),/g, load)
    .replace(/(fn queryPiece[^}]*loadLeftrow_tile\()\d+u/, "$1piece % 8u")
    .replace(/(fn turnedPiece[^}]*loadLeftrow_tile\()\d+u/, "$18u + piece % 8u")
    .replace(/subgroupMatrixStore<(row|col)_major>\(&(\w+),/g, store)
    .replaceAll("subgroupMatrixMultiplyAccumulate(", "multiply(")
    .replace(/\bsubgroup(ShuffleXor|Any|Max|Add)\(/g, "lanes$1(")
    .replace(
      /@builtin\(local_invocation_index\) (\w+): u32\) \{/,
      "@builtin(local_invocation_index) given: u32) {\n  invocation = given ^ 7u;\n  let $1 = invocation;",
    )
    .replace(
      /bitcast<u32>\((?=fma\(codes|codes \*|vec2<f16>\(|bitcast<vec2<f16>>|lowHalves|highHalves|even|odd)/g,
      "pack2x16float(",
    )
    .replaceAll("bitcast<vec2<f16>>(", "unpack2x16float(")
    .replace(/(?<=\d)h\b/g, "")
    .replace(/\bf16\b/g, "f32");
  return [plain, LANES, multiply(columns, slots), ...helpers.values()].join("\n");
}

/** Arrays of arrays in workgroup memory as one array each: `&tile[a], b` becomes `&tile, a * length + b`. */
function withoutNesting(text: string): string {
  const nested = text.matchAll(/^var<workgroup> (\w+): array<array<vec4<u32>, (\w+)>, (\w+)>;$/gm);
  return [...nested].reduce(
    (flat, [line, name, inner, outer]) =>
      flat
        .replace(line, `var<workgroup> ${name}: array<vec4<u32>, ${inner} * ${outer}>;`)
        .replace(new RegExp(`&${name}\\[([^\\]]+)\\], `, "g"), `&${name}, ($1) * ${inner} + `)
        .replace(
          new RegExp(`\\b${name}\\[([^\\]]+)\\]\\[([^\\]]+)\\]`, "g"),
          `${name}[($1) * ${inner} + $2]`,
        ),
    text,
  );
}

/** The same of matrices of int8 and what they sum: LeftCodes, RightCodes, Counts, of 32 columns and rows. */
function withoutCodes(text: string, helpers: Map<string, string>): string {
  if (!text.includes("LeftCodes")) return text;
  let slots = 0;
  const byte = "i32(extractBits(i32(stage[at + line * stride + k / 16u][k % 16u / 4u]), k % 4u * 8u, 8u))";
  for (const [type, lines] of [
    ["Left", 1],
    ["Right", 4],
  ] as const)
    helpers.set(
      `codes ${type}`,
      `
fn load${type}Codes(slot: u32, at: u32, stride: u32) -> u32 {
  for (var n = 0u; n < ${lines}u; n++) {
    let line = ${type === "Left" ? "invocation % 32u / 2u" : "invocation % 2u * 4u + n"};
    for (var k = 0u; k < 32u; k++) {
      ${type.toLowerCase()}Codes[(slot * 32u + k) * ${lines}u + n] = ${byte};
    }
  }
  return slot;
}`,
    );
  const plain = text
    .replace(/^alias (Left|Right)Codes = .*$/gm, "alias $1Codes = u32;")
    .replace(/^alias Counts = .*$/m, "alias Counts = array<vec4<i32>, 1>;")
    .replaceAll(
      "subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<LeftCodes",
      "multiplyCodes(subgroupMatrixLoad<LeftCodes",
    )
    .replace(
      /subgroupMatrixLoad<(Left|Right)Codes, (row|col)_major>\(\s*&stage,/g,
      (_, type: string) => `load${type}Codes(${slots++}u,`,
    )
    .replace(
      /subgroupMatrixStore<row_major>\(&stage, (\w+(?: \+ 16u \* \w+)?), (low|high),/g,
      "storeCounts($1, $2,",
    );
  helpers.set(
    "codes",
    `
var<private> leftCodes: array<i32, ${32 * slots}>;
var<private> rightCodes: array<i32, ${128 * slots}>;

fn multiplyCodes(left: u32, right: u32, more: Counts) -> Counts {
  var result = more;
  for (var k = 0u; k < 32u; k++) {
    for (var n = 0u; n < 4u; n++) {
      result[0][n] += leftCodes[left * 32u + k] * rightCodes[(right * 32u + k) * 4u + n];
    }
  }
  return result;
}

fn storeCounts(at: u32, result: Counts, stride: u32) {
  stage[at + invocation % 32u / 2u * stride + invocation % 2u] = bitcast<vec4<u32>>(result[0]);
}`,
  );
  return plain;
}

/** Subgroups of 32 through workgroup memory. */
export const LANES = `
var<private> invocation: u32;
var<workgroup> laneFours: array<vec4<f32>, 128>;

fn lanesShuffleXor(x: f32, mask: u32) -> f32 {
  workgroupBarrier();
  laneFours[invocation].x = x;
  workgroupBarrier();
  return laneFours[invocation ^ mask].x;
}

fn lanesAny(flag: bool) -> bool {
  workgroupBarrier();
  laneFours[invocation].x = select(0.0, 1.0, flag);
  workgroupBarrier();
  var any = false;
  for (var i = 0u; i < 32u; i++) {
    any = any || laneFours[(invocation & ~31u) + i].x > 0.0;
  }
  return any;
}

fn lanesMax(x: vec4<f32>) -> vec4<f32> {
  workgroupBarrier();
  laneFours[invocation] = x;
  workgroupBarrier();
  var most = x;
  for (var i = 0u; i < 32u; i++) {
    most = max(most, laneFours[(invocation & ~31u) + i]);
  }
  return most;
}

fn lanesAdd(x: vec4<f32>) -> vec4<f32> {
  workgroupBarrier();
  laneFours[invocation] = x;
  workgroupBarrier();
  var sum = vec4<f32>(0.0);
  for (var i = 0u; i < 32u; i++) {
    sum += laneFours[(invocation & ~31u) + i];
  }
  return sum;
}
`;

function multiply(columns: number, { Left, Right }: { Left: number; Right: number }): string {
  const fours = columns / 8;
  return `
var<private> lefts: array<f32, ${16 * Left}>;
var<private> rights: array<vec4<f32>, ${16 * fours * Math.max(1, Right)}>;

fn multiply(left: Left, right: Right, more: Result) -> Result {
  var result = more;
  for (var k = 0u; k < 16u; k++) {
    for (var i = 0u; i < ${fours}u; i++) {
      result[i] += lefts[left * 16u + k] * rights[(right * 16u + k) * ${fours}u + i];
    }
  }
  return result;
}`;
}

/** A lane's part of a matrix of halves, in words of 16 bytes from `at`, a row (or column) each `stride`. */
function loadOperand(
  name: string,
  type: "Left" | "Right",
  order: string,
  array: string,
  columns: number,
): string {
  const half = `unpack2x16float(${array}[at + line * stride + i / 8u][i % 8u / 2u])[i % 2u]`;
  if (type === "Left") {
    const [line, i] = order === "col" ? ["k", "row"] : ["row", "k"];
    return `
fn ${name}(slot: u32, at: u32, stride: u32) -> Left {
  let row = invocation % 32u / 2u;
  for (var k = 0u; k < 16u; k++) {
    let line = ${line};
    let i = ${i};
    lefts[slot * 16u + k] = ${half};
  }
  return slot;
}`;
  }
  const fours = columns / 8;
  const [line, i] = order === "col" ? ["column", "k"] : ["k", "column"];
  return `
fn ${name}(slot: u32, at: u32, stride: u32) -> Right {
  for (var k = 0u; k < 16u; k++) {
    for (var c = 0u; c < ${4 * fours}u; c++) {
      let column = invocation % 2u * ${4 * fours}u + c;
      let line = ${line};
      let i = ${i};
      rights[(slot * 16u + k) * ${fours}u + c / 4u][c % 4u] = ${half};
    }
  }
  return slot;
}`;
}

function loadResult(name: string, array: string, columns: number): string {
  const fours = columns / 8;
  return `
fn ${name}(at: u32, stride: u32) -> Result {
  var result = Result();
  for (var i = 0u; i < ${fours}u; i++) {
    result[i] = bitcast<vec4<f32>>(${array}[at + invocation % 32u / 2u * stride + invocation % 2u * ${fours}u + i]);
  }
  return result;
}`;
}

/** order: of words of 16 bytes by rows or columns; "floats": single ones by rows. */
function storeResult(name: string, order: string, array: string, columns: number): string {
  const fours = columns / 8;
  const own = `${array}[at + row * stride + (invocation % 2u * ${fours}u + i) * 4u + c]`;
  const body =
    order === "floats"
      ? `for (var c = 0u; c < 4u; c++) {
      ${own} = result[i][c];
    }`
      : order === "row"
        ? `${array}[at + row * stride + invocation % 2u * ${fours}u + i] = bitcast<vec4<u32>>(result[i]);`
        : `for (var c = 0u; c < 4u; c++) {
      ${array}[at + ((invocation % 2u * ${fours}u + i) * 4u + c) * stride + row / 4u][row % 4u] = bitcast<u32>(result[i][c]);
    }`;
  return `
fn ${name}(at: u32, result: Result, stride: u32) {
  let row = invocation % 32u / 2u;
  for (var i = 0u; i < ${fours}u; i++) {
    ${body}
  }
}`;
}
