/**
 * The conformance suite with SwiftShader's subgroups of 4, where kernels for few rows serve up to 4. SwiftShader compiles
 * those slowly: tables and products are asked of one type of each form (matmul.test.ts has all), and what kernels without
 * subgroups serve alike is left to conformance-plain.test.ts.
 */
import type { TensorType } from "../../../src/format/tensor.ts";
import { deviceCases } from "../device-cases.ts";
import { conform } from "./conformance.ts";

const FORMS: readonly TensorType[] = [
  ...(["q4_0", "q4_k", "q8_0", "q6_k", "iq4_nl", "mxfp4", "iq2_s", "bf16", "f32"] as const),
];
const EXPERT_FORMS: readonly TensorType[] = ["q4_0", "q4_k", "q8_0", "q6_k", "mxfp4", "f16"];

/** Formats that the same kernels read; attend.test.ts has both with each head size of a model. */
const FOUR_BITS = ["int4", "rq4"];

conform("subgroups of 4, few rows up to 4", { few: 4 }, deviceCases, (testCase) => {
  const { onlyFast, ofType, steps, kv = "", shape, isOddSize } = testCase;
  if (onlyFast) return "slow in software, other cases have its kernels";
  if (shape !== undefined && !isOddSize && FOUR_BITS[shape % 2] !== kv && FOUR_BITS.includes(kv))
    return `${FOUR_BITS[shape % 2]} has this shape, attend.test.ts both formats`;
  if (!ofType) return null;
  const forms = ofType.op === "expertMatmul" ? EXPERT_FORMS : FORMS;
  if (!forms.includes(ofType.type)) return "another type has its form";
  const isServed = ofType.op !== "matmul" || steps[0] === 1 || steps[0] === 3;
  return isServed ? null : "conformance-plain.test.ts has so many tokens";
});
