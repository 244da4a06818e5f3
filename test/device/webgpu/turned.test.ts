/**
 * Layers with one vector for key and value on a GPU in software: every format in every mode, by integer dot products and by float
 * arithmetic. attend-matrix.test.ts has them with subgroup matrices. Each kind of kernels has each shape in one format at least:
 * compiling takes most of the time.
 */
import { TOLERANCES } from "../device-cases.ts";
import { turnedCases } from "../turned-cases.ts";
import { conform } from "./conformance.ts";

const { attendF16, attendInt4, attendRq4 } = TOLERANCES;

conform("one vector, subgroups of 4", { few: 8 }, [
  ...turnedCases("f16", attendF16, [1, 4]),
  ...turnedCases("int4", attendInt4, [0, 2]),
  ...turnedCases("rq4", attendRq4, [3]),
  ...turnedCases("k4c-v4r-n32", attendRq4, [1, 4]),
  ...turnedCases("k3c-v3r-n32", attendRq4, [0]),
]);
conform("one vector, no subgroups, prompts from two rows on", { subgroups: false, few: 1 }, [
  ...turnedCases("f16", attendF16, [0]),
  ...turnedCases("int4", attendInt4, [1]),
  ...turnedCases("k4c-v4r-n32", attendRq4, [3]),
]);

/** As float-kernels.test.ts has it: nothing is rounded but what the cache holds. */
const FLOATS = 1e-5;
/** Keys are turned by each device's own sines, and one of them may get another code: 1e-4. */
const OWN_CODES = 3e-4;
conform("one vector, float arithmetic", { floats: true, few: 8 }, [
  ...turnedCases("int4", OWN_CODES, [0]),
  ...turnedCases("rq4", FLOATS, [3]),
  ...turnedCases("k4c-v4r-n32", FLOATS, [1]),
  ...turnedCases("k3c-v3r-n32", FLOATS, [4]),
]);
conform("one vector, float arithmetic, no subgroups", { floats: true, few: 8, subgroups: false }, [
  ...turnedCases("k4c-v4r-n32", FLOATS, [2]),
]);
