/**
 * matmulStream without subgroup matrices and f16, for a GPU in software: both become plain WGSL, text for text. A lane of 32 has
 * row lane / 2 of a left matrix, and of right ones and results the four columns from lane % 2 * 4 on. Sums in f32 and weights
 * rounded to f16 are what a GPU makes, too.
 */
const MATRICES = `
// Of right matrices the place in a lane's memory: values would make SwiftShader's compiler slow. One left matrix at a time.
alias Left = u32;
alias Right = u32;
alias Result = vec4<f32>;
var<private> leftRow: array<f32, 16>;
var<private> columns: array<vec4<f32>, 512>;
var<private> used: u32;

fn halfAt(subgroup: u32, at: u32, k: u32) -> f32 {
  return unpack2x16float(tiles[subgroup][at + k / 8u][k / 2u % 4u])[k % 2u];
}

fn loadLeft(subgroup: u32, lane: u32, at: u32, stride: u32) -> Left {
  for (var k = 0u; k < 16u; k++) {
    leftRow[k] = halfAt(subgroup, at + lane / 2u * stride, k);
  }
  return 0u;
}

fn loadRight(subgroup: u32, lane: u32, at: u32, stride: u32) -> Right {
  let first = used;
  used += 16u;
  for (var k = 0u; k < 16u; k++) {
    for (var c = 0u; c < 4u; c++) {
      columns[first + k][c] = halfAt(subgroup, at + (lane % 2u * 4u + c) * stride, k);
    }
  }
  return first;
}

fn multiply(left: Left, right: Right, more: Result) -> Result {
  var result = more;
  for (var k = 0u; k < 16u; k++) {
    result += leftRow[k] * columns[right + k];
  }
  return result;
}

fn storeResult(subgroup: u32, lane: u32, at: u32, stride: u32, result: Result) {
  for (var c = 0u; c < 4u; c++) {
    sums[subgroup][at + (lane % 2u * 4u + c) * stride + lane / 8u][lane / 2u % 4u] = bitcast<u32>(result[c]);
  }
}
`;

/** The text of matmulStream with its libraries, for a device without features. */
export function emulated(text: string): string {
  return (
    text
      .replace(/^diagnostic.*$/m, "")
      .replace(/^alias \w+ = subgroup_matrix.*$/gm, "")
      .replace(/subgroupMatrixLoad<(\w+), \w+>\(&tiles\[subgroup\], /g, "load$1(subgroup, lane, ")
      .replaceAll("subgroupMatrixMultiplyAccumulate(", "multiply(")
      .replace(
        /subgroupMatrixStore<col_major>\(&sums\[subgroup\], (.+), (sum\d), SUM_STRIDE\)/g,
        "storeResult(subgroup, lane, $1, SUM_STRIDE, $2)",
      )
      .replaceAll("bitcast<vec2<f16>>(", "unpack2x16float(")
      .replace(/bitcast<u32>\((?=fma\(codes|codes \*|vec2<f16>)/g, "pack2x16float(")
      .replace(/(?<=\d)h\b/g, "")
      .replace(/\bf16\b/g, "f32") + MATRICES
  );
}
