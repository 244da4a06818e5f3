/**
 * The conformance suite with SwiftShader's subgroups of 4, where kernels for few rows serve up to 4. SwiftShader compiles
 * those slowly: tables and products are asked of one type of each form (matmul.test.ts has all), and what kernels without
 * subgroups serve alike is left to conformance-plain.test.ts.
 */
import type { TensorType } from "../../../src/format/tensor.ts";
import { deviceCases } from "../device-cases.ts";
import { conform, otherFormat } from "./conformance.ts";

const FORMS: readonly TensorType[] = [
  ...(["q4_0", "q4_k", "q8_0", "q6_k", "iq4_nl", "mxfp4", "iq2_s", "bf16", "f32"] as const),
];
/** Of products of three tokens, each of which takes a second to compile. */
const FEW_FORMS: readonly TensorType[] = ["q4_0", "bf16"];
const EXPERT_FORMS: readonly TensorType[] = ["q4_0", "q4_k", "q8_0", "q6_k", "mxfp4", "f16"];

conform("subgroups of 4, few rows up to 4", { few: 4 }, deviceCases, (testCase) => {
  const { onlyFast, ofType, steps } = testCase;
  if (onlyFast) return "slow in software, other cases have its kernels";
  if (!ofType) return otherFormat(testCase, 0);
  const forms = ofType.op === "expertMatmul" ? EXPERT_FORMS : FORMS;
  if (!forms.includes(ofType.type)) return "another type has its form";
  if (ofType.op !== "matmul" || steps[0] === 1) return null;
  if (steps[0] !== 3) return "conformance-plain.test.ts has so many tokens";
  return FEW_FORMS.includes(ofType.type) ? null : "matmul.test.ts has few tokens of this form";
});
