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

/** Steps of 4-bit caches that attend.test.ts does not have without subgroups: of one token alone, and of windows and spans that go on. */
const OWN_STEPS = [
  "steps [1]",
  "steps [33,1,1]",
  "window 32",
  "window 33",
  "steps [64,64,64,64,64,64,64,64,1]",
];
/** A packed cache; codes of a token after others; norms and biases; columns that are cut. */
const APPENDS = ["k4c-v4r", "int4, q8_0", "norms, biases", "f16, q4_0, 4/2 heads of 64, steps [5]"];

conform("no subgroups, prompts from two rows on", { subgroups: false, few: 1 }, ordinaryCases, (testCase) => {
  const { name, onlyFast, ofType } = testCase;
  if (onlyFast) return "slow in software, other cases have its kernels";
  if (
    /^appendKv, attend (int4|rq4), \S+ heads of (64|80|96|128|256|512), steps \[\d/.test(name) &&
    !OWN_STEPS.some((steps) => name.includes(steps))
  )
    return "attend.test.ts has this size without subgroups, in int4 or rq4";
  if (name.startsWith("q, k and v into") && !APPENDS.some((append) => name.includes(append)))
    return "conformance.test.ts has such an append";
  if (name.startsWith("gatedDelta") && !DELTAS.some((size) => name.includes(size)))
    return "conformance.test.ts has this size";
  // What a device without subgroups does otherwise is adding up, by a function that knows no format (lib/lanes.shared.wgsl).
  if (!ofType) return otherFormat(testCase, 2);
  return FORMS.includes(ofType.type) ? null : "matmul.test.ts has the others";
});
