/**
 * The conformance suite as on a device without subgroups, whose kernels for prompts serve two rows already. A file of its
 * own, so that two workers share the cases.
 */
import type { TensorType } from "../../../src/format/tensor.ts";
import { ordinaryCases } from "../device-cases.ts";
import { conform, otherFormat } from "./conformance.ts";

const FORMS: readonly TensorType[] = ["q4_0", "q4_k", "q8_0", "q6_k", "mxfp4", "iq2_s", "bf16", "f32"];

/** One size of each kind of gated delta rule: without subgroups they differ by how they add up alone. */
const DELTAS = ["4/2 heads of 16 x 16, tiled", "2/1 heads of 20 x 256", "4/2 heads of 32 x 32, steps [["];

conform("no subgroups, prompts from two rows on", { subgroups: false, few: 1 }, ordinaryCases, (testCase) => {
  const { name, onlyFast, ofType } = testCase;
  if (onlyFast) return "slow in software, other cases have its kernels";
  if (name.startsWith("gatedDelta") && !DELTAS.some((size) => name.includes(size)))
    return "conformance.test.ts has this size";
  // What a device without subgroups does otherwise is adding up, by a function that knows no format (lib/lanes.shared.wgsl).
  if (!ofType) return otherFormat(testCase, 2);
  return FORMS.includes(ofType.type) ? null : "matmul.test.ts has the others";
});
