/**
 * Attention with subgroup matrices without subgroups, matrices and f16, for a GPU in software: all become plain WGSL, text for
 * text. A lane of 32 has row lane / 2 of a left matrix, and of right ones and results a half or a quarter of the columns.
 * Matrices live in private memory, one for each place of the text that loads one. Lanes have another order than the invocations: of
 * different values that lanes store in one place, this GPU keeps the last invocation's, an H200 that of the first lane of the last
 * eight, so that what depends on it shows.
 */

/** The text of attendDecodeMatrix, attendPromptMatrix, matmulBatch or matmulMatrix with its libraries, for a device without features. */
export function emulatedSubgroups(text: string): string {
  const columns = Number(/alias Right = subgroup_matrix_right<f16, (\d+)/.exec(text)![1]);
  // Queries of the prompt's kernel come from one place each piece.
  const slots = { Left: 16, Right: 0 };
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
  const plain = text
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
      "@builtin(local_invocation_index) index: u32) {\n  invocation = index ^ 7u;\n  let $1 = invocation;",
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
  if (type === "Left")
    return `
fn ${name}(slot: u32, at: u32, stride: u32) -> Left {
  let line = invocation % 32u / 2u;
  for (var i = 0u; i < 16u; i++) {
    lefts[slot * 16u + i] = ${half};
  }
  return slot;
}`;
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
