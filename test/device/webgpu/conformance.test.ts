/** The conformance suite with SwiftShader's subgroups of 4. */
import { deviceCases } from "../device-cases.ts";
import { conform } from "./conformance.ts";

conform(
  "subgroups of 4",
  {},
  deviceCases.filter(({ onlyFast }) => !onlyFast),
);
