/**
 * The conformance suite with SwiftShader's subgroups of 4, where kernels for few rows serve up to 4. SwiftShader compiles
 * those slowly: products of several rows are asked of one type of each form (matmul.test.ts has all), and what kernels
 * without subgroups serve alike is left to conformance-plain.test.ts.
 */
import { deviceCases } from "../device-cases.ts";
import { conform } from "./conformance.ts";

const isAsked = (name: string) =>
  !/^matmul \w+ \d/.test(name) ||
  name.endsWith(" 1 tokens") ||
  /^matmul (q4_0|q4_k|q8_0|q6_k|iq4_nl|mxfp4|bf16|f32) .* 3 tokens$/.test(name);

conform(
  "subgroups of 4, few rows up to 4",
  { few: 4 },
  deviceCases.filter(({ name, onlyFast }) => !onlyFast && isAsked(name)),
);
