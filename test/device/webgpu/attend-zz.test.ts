import { it } from "vitest";
import { nullDevice } from "./gpu.ts";

const front = `enable f16; enable subgroups; enable chromium_experimental_subgroup_matrix;
alias Left = subgroup_matrix_left<f16, 16, 16>; alias Right = subgroup_matrix_right<f16, 16, 16>; alias Sum = subgroup_matrix_result<f32, 16, 16>;
var<workgroup> tile: array<vec4<u32>, 1024>;
@group(0) @binding(0) var<storage, read_write> q: array<vec4<u32>>;
`;
it("t", async () => {
  const gpu = await nullDevice();
  for (const [name, body] of [
    [
      "load vec4u",
      "let m = subgroupMatrixLoad<Left, row_major>(&tile, 0u, 9u); var s: Sum; s = subgroupMatrixMultiplyAccumulate(m, subgroupMatrixLoad<Right, col_major>(&tile, 0u, 9u), s); subgroupMatrixStore<row_major>(&tile, 0u, s, 9u);",
    ],
    [
      "arr",
      "var s: array<Sum, 4>; for (var i = 0u; i < 4u; i++) { s[i] = Sum(); s[i] = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&q, 0u, 9u), subgroupMatrixLoad<Right, col_major>(&tile, 0u, 9u), s[i]); } subgroupMatrixStore<row_major>(&tile, 0u, s[0], 9u);",
    ],
    [
      "scalar",
      "var s: Sum; s = subgroupMatrixScalarMultiply(s, 2.0f); subgroupMatrixStore<row_major>(&tile, 0u, s, 9u);",
    ],
  ]) {
    const code = front + `@compute @workgroup_size(128) fn main() { ${body} }`;
    gpu.device.pushErrorScope("validation");
    const module = gpu.device.createShaderModule({ code });
    try {
      await gpu.device.createComputePipelineAsync({ layout: "auto", compute: { module } });
      console.log("XX", name, "ok");
    } catch (e) {
      console.log("XX", name, (e as Error).message.slice(0, 1500));
    }
    await gpu.device.popErrorScope();
  }
});
