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
  // Forms whose parts are in others are left to matmul.test.ts.
  ordinaryCases.filter(
    ({ name, onlyFast }) =>
      !(onlyFast && name.startsWith("gatedDelta")) &&
      ![...TWINS, "iq3_s", "iq3_xxs", "iq1_s", "nvfp4", "q1_0"].some((type) =>
        `${name} `.includes(` ${type} `),
      ),
  ),
);
