/** The conformance suite with SwiftShader's subgroups of 4. */
import { conform } from "./conformance.ts";

conform("subgroups of 4", {});
