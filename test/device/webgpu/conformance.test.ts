/**
 * The conformance suite with SwiftShader's subgroups of 4, where kernels for few rows serve up to 32. Beyond, products take
 * kernels that know no subgroups: conformance-plain.test.ts has those.
 */
import { deviceCases } from "../device-cases.ts";
import { conform } from "./conformance.ts";

const cases = deviceCases.filter(({ name }) => !/^matmul .* 33 tokens/.test(name));
conform("subgroups of 4, few rows up to 32", { few: 32 }, cases);
