/**
 * The conformance suite as on a device without subgroups, whose kernels for prompts serve two rows already. A file of its
 * own, so that two workers share the cases.
 */
import type { TensorType } from "../../../src/format/tensor.ts";
import { type DeviceCase, ordinaryCases } from "../device-cases.ts";
import { conform } from "./conformance.ts";

const FORMS: readonly TensorType[] = ["q4_0", "q4_k", "q8_0", "q6_k", "mxfp4", "iq2_s", "bf16", "f32"];

const CODECS = ["f16", "int4", "rq4"];

/**
 * One format of the cache for each shape. What a device without subgroups does otherwise is reducing, by a function that knows no
 * format (lib/lanes.shared.wgsl); all formats of each shape are met with subgroups (conformance.test.ts).
 */
function dealt(cases: readonly DeviceCase[]): ReadonlySet<DeviceCase> {
  const seen = new Map<string, number>();
  const taken = cases.filter(({ kv }) => {
    if (kv === undefined) return true;
    const shape = seen.get(kv) ?? 0;
    seen.set(kv, shape + 1);
    return shape % CODECS.length === CODECS.indexOf(kv);
  });
  return new Set(taken);
}

const taken = dealt(ordinaryCases);

conform("no subgroups, prompts from two rows on", { subgroups: false, few: 1 }, ordinaryCases, (testCase) => {
  if (testCase.onlyFast) return "slow in software, other cases have its kernels";
  if (!taken.has(testCase)) return "another format of the cache has this shape";
  // matmul.test.ts has the others.
  const isForm = !testCase.ofType || FORMS.includes(testCase.ofType.type);
  return isForm ? null : "another type has its form";
});
