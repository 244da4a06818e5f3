/**
 * The conformance suite with SwiftShader's subgroups of 4, where kernels for few rows serve up to 4. SwiftShader compiles
 * those slowly: tables and products are asked of one type of each form (matmul.test.ts has all), and what kernels without
 * subgroups serve alike is left to conformance-plain.test.ts.
 */
import { deviceCases } from "../device-cases.ts";
import { conform, OF_ONE_TYPE } from "./conformance.ts";

const FORMS = /^(embed|matmul) (q4_0|q4_k|q8_0|q6_k|iq4_nl|mxfp4|iq2_s|bf16|f32)( .* [13] tokens)?$/;
const EXPERT_FORMS = /^expertMatmul (q4_0|q4_k|q8_0|q6_k|mxfp4|f16) /;

conform(
  "subgroups of 4, few rows up to 4",
  { few: 4 },
  deviceCases.filter(
    ({ name, onlyFast }) =>
      !onlyFast &&
      // Float16 that saturates, which SwiftShader has in caches alone: one step of one row and of many for each.
      !/ of activations .*, 40 tokens$|(keys|queries|values|channel|tails).*, steps (1,40|40,1)$/.test(
        name,
      ) &&
      (FORMS.test(name) || EXPERT_FORMS.test(name) || !OF_ONE_TYPE.test(name)),
  ),
);
