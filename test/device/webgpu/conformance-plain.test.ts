/**
 * The conformance suite as on a device without subgroups, whose kernels for prompts serve two rows already. A file of its
 * own, so that two workers share the cases.
 */
import { ordinaryCases } from "../device-cases.ts";
import { TWINS } from "../random-tensor.ts";
import { conform } from "./conformance.ts";

conform(
  "no subgroups, prompts from two rows on",
  { subgroups: false, few: 1 },
  // iq3_s, nvfp4, q1_0: forms whose parts are in others; matmul.test.ts has them.
  ordinaryCases.filter(
    ({ name }) => ![...TWINS, "iq3_s", "nvfp4", "q1_0"].some((type) => `${name} `.includes(` ${type} `)),
  ),
);
