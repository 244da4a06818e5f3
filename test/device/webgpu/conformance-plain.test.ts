/**
 * The conformance suite as on a device without subgroups, whose kernels for prompts serve two rows already. A file of its
 * own, so that two workers share the cases.
 */
import { ordinaryCases } from "../device-cases.ts";
import { conform, OF_ONE_TYPE } from "./conformance.ts";

const FORMS = /^(embed|matmul|expertMatmul) (q4_0|q4_k|q8_0|q6_k|mxfp4|iq2_s|bf16|f32)( |$)/;

conform(
  "no subgroups, prompts from two rows on",
  { subgroups: false, few: 1 },
  // Of weights a type of each form: matmul.test.ts has the others.
  ordinaryCases.filter(
    ({ name, onlyFast }) =>
      !(onlyFast && name.startsWith("gatedDelta")) && (FORMS.test(name) || !OF_ONE_TYPE.test(name)),
  ),
);
