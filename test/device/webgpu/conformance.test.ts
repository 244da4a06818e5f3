/** The conformance suite with SwiftShader's subgroups of 4, where kernels for few rows serve up to 32. */
import { deviceCases } from "../device-cases.ts";
import { conform } from "./conformance.ts";

conform(
  "subgroups of 4",
  {},
  deviceCases.filter(({ onlyFast }) => !onlyFast),
);
