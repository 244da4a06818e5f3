/**
 * Subgroup matrices of any shape as plain WGSL, text for text, for a GPU in software: kernels whose workgroup is one subgroup of 32.
 * A lane has a row of a left matrix (that of its results), some columns of a right one, and as many results of that row; a load
 * takes them from workgroup memory, where rows are vec4<f32>, or vec4<u32> of halves.
 */
import { LANES } from "./emulated-subgroups.ts";

interface Matrix {
  readonly part: "left" | "right" | "result";
  readonly half: boolean;
  readonly cols: number;
  readonly rows: number;
}

const ALIAS = /^alias (\w+) = subgroup_matrix_(left|right|result)<(f16|f32), (\d+), (\d+)>;$/gm;

/** The text of a kernel with its libraries, for a device without features. */
export function emulatedMatrices(text: string): string {
  const matrices = new Map<string, Matrix>(
    [...text.matchAll(ALIAS)].map(([, name, part, type, cols, rows]) => [
      name,
      { part: part as Matrix["part"], half: type === "f16", cols: Number(cols), rows: Number(rows) },
    ]),
  );
  const [resultName, result] = [...matrices].find(([, { part }]) => part === "result")!;
  const inner = [...matrices.values()].find(({ part }) => part === "left")!.cols;
  /** Results of a lane, in one row. */
  const each = (result.rows * result.cols) / 32;
  const helpers = new Map<string, string>();
  const plain = text
    .replace(/^diagnostic.*$/m, "")
    .replace(ALIAS, (_, name: string, part: Matrix["part"]) => {
      const count = { left: inner, right: inner * each, result: each }[part];
      return `alias ${name} = array<f32, ${count}>;`;
    })
    .replace(
      /subgroupMatrixLoad<(\w+), (row|col)_major>\(\s*&(\w+),/g,
      (_, name: string, order: string, array: string) => {
        const helper = `load${name}_${order}_${array}`;
        helpers.set(helper, load(helper, name, matrices.get(name)!, order, array, each, result.cols));
        return `${helper}(`;
      },
    )
    .replace(/subgroupMatrixStore<(row|col)_major>\(\s*&(\w+),/g, (_, order: string, array: string) => {
      const helper = `store_${order}_${array}`;
      helpers.set(helper, store(helper, resultName, order, array, each, result.cols));
      return `${helper}(`;
    })
    .replaceAll("subgroupMatrixMultiplyAccumulate(", "multiply(")
    .replace(/\bsubgroup(ShuffleXor|Any|Max|Add)\(/g, "lanes$1(")
    .replace(/(@builtin\(local_invocation_index\) (\w+): u32\) \{)/, "$1\n  invocation = $2;");
  const [left, right] = (["left", "right"] as const).map(
    (part) => [...matrices].find(([, matrix]) => matrix.part === part)![0],
  );
  const multiply = `
fn multiply(left: ${left}, right: ${right}, more: ${resultName}) -> ${resultName} {
  var result = more;
  for (var k = 0u; k < ${inner}u; k++) {
    for (var c = 0u; c < ${each}u; c++) {
      result[c] += left[k] * right[k * ${each}u + c];
    }
  }
  return result;
}`;
  return [plain, LANES, multiply, ...helpers.values()].join("\n");
}

/** An element in line `line` (a row, or a column), `i`-th of it. */
const element = (array: string, half: boolean) =>
  half
    ? `unpack2x16float(${array}[at + line * stride + i / 8u][i % 8u / 2u])[i % 2u]`
    : `${array}[at + line * stride + i / 4u][i % 4u]`;

const placeOf = (each: number, cols: number) =>
  `let row = invocation % 32u * ${each}u / ${cols}u;
  let column = invocation % 32u * ${each}u % ${cols}u;`;

function load(
  helper: string,
  name: string,
  { part, half, cols, rows }: Matrix,
  order: string,
  array: string,
  each: number,
  resultCols: number,
): string {
  const [count, theRow, theColumn] = {
    left: [cols, "row", "e"],
    right: [rows * each, `e / ${each}u`, `column + e % ${each}u`],
    result: [each, "row", "column + e"],
  }[part];
  const [line, i] = order === "row" ? [theRow, theColumn] : [theColumn, theRow];
  return `
fn ${helper}(at: u32, stride: u32) -> ${name} {
  ${placeOf(each, resultCols)}
  var matrix: ${name};
  for (var e = 0u; e < ${count}u; e++) {
    let line = ${line};
    let i = ${i};
    matrix[e] = ${element(array, half && part !== "result")};
  }
  return matrix;
}`;
}

function store(helper: string, name: string, order: string, array: string, each: number, cols: number) {
  const [line, i] = order === "row" ? ["row", "column + e"] : ["column + e", "row"];
  return `
fn ${helper}(at: u32, matrix: ${name}, stride: u32) {
  ${placeOf(each, cols)}
  for (var e = 0u; e < ${each}u; e++) {
    let line = ${line};
    let i = ${i};
    ${element(array, false)} = matrix[e];
  }
}`;
}
