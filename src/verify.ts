/**
 * What a cache format costs a model: what `import ... from "nibble-llm/verify"` gives (Node only).
 *
 *     import { verifyModel } from "nibble-llm/verify";
 *     for await (const row of verifyModel("needle", { kv: ["int4"] })) if (row.kind === "verdict") console.log(row);
 */
export type { LoadOptions } from "./engine/load.ts";
export {
  AbortedError,
  ArgumentError,
  DeviceError,
  type ErrorCode,
  FormatError,
  LogitsError,
  MemoryError,
  NibbleError,
  UnsupportedError,
} from "./format/errors.ts";
export type { DivergenceSummary } from "./study/verify/divergence.ts";
export { GRADES } from "./study/verify/verdict.ts";
export {
  type LogitsStore,
  type VerifyOptions,
  type VerifyProgress,
  type VerifySource,
  verify,
} from "./study/verify/verify.ts";
export { type VerifyModelOptions, verifyModel } from "./study/verify/verify-model.ts";
export type {
  AnswerRow,
  DepthRow,
  FormatRow,
  Grade,
  LayerRow,
  NeedleRow,
  Verdict,
  VerifyRow,
} from "./study/verify/verify-rows.ts";
export { planStudy, type Study, type StudySubject, type VerifyTests } from "./study/verify/verify-tests.ts";
