/**
 * The library for pages: `import ... from "nibble-llm/browser"`, one bundle without Node's modules. It exports the Node
 * library's names where the function exists in a page; models come from URLs and files, and WebGPU computes.
 *
 *     import { load } from "nibble-llm/browser";
 *     const model = await load("/models/needle-14m-Q8_0.gguf", { onProgress: ({ bytes }) => console.log(bytes) });
 *     for await (const { text } of model.generate("What is a whale?")) document.body.append(text);
 *     await model.close();
 */

export type { CustomSampler } from "./engine/custom-sampler.ts";
export {
  type GenerateOptions,
  Generation,
  type GenerationResult,
  type Piece,
  type StopReason,
} from "./engine/generate.ts";
export { EngineModel as LanguageModel, type Prompt, type PromptOptions } from "./engine/language-model.ts";
export type { Likelihood, TokenLogprob } from "./engine/likelihood.ts";
export type { LoadProgress } from "./engine/load-checkpoint.ts";
export {
  load,
  type WebLoadOptions as LoadOptions,
  type WebModel,
} from "./engine/load-web.ts";
export { OpenText } from "./engine/open-text.ts";
export type { Plan, PlannedDevice, PlanOptions } from "./engine/plan.ts";
export { type SampleOptions, type Sampler, sampler } from "./engine/sample.ts";
export type { Constraint } from "./engine/tokens.ts";
export { blobFolder, blobSource } from "./format/blob-source.ts";
export {
  AbortedError,
  ArgumentError,
  ContextError,
  DeviceError,
  type ErrorCode,
  FormatError,
  LogitsError,
  MemoryError,
  NibbleError,
  throwIfAborted,
  UnsupportedError,
} from "./format/errors.ts";
export type { Folder } from "./format/folder.ts";
export { type HttpOptions, httpFolder, httpSource } from "./format/http-source.ts";
export type { PromptMessage, TextPart } from "./format/plain-messages.ts";
export type { Source } from "./format/source.ts";
export type { ChatMessage, ChatTemplate, RenderOptions } from "./format/template.ts";
export type { TextStream, Tokenizer } from "./format/tokenizer.ts";
export type { LayerSpec, ModelConfig } from "./model/config.ts";
export type { Model } from "./model/model.ts";
export { SHAPES, type Shape } from "./model/shapes.ts";
export { type AttendPlotOptions, attendPlot } from "./study/attend/attend-plot.ts";
export {
  ATTEND_SHAPES,
  type AttendFinding,
  type AttendOp,
  type AttendProgress,
  type AttendRow,
  type AttendTests,
  type BandwidthRow,
  type BenchAttendOptions,
  benchAttend,
  floorUs,
  type SkippedRow,
} from "./study/attend/bench-attend.ts";
export { openAttendTimer } from "./study/attend/open-timer-web.ts";
export { type KvRate, kvBytes, kvRates, ratesByFormat } from "./study/plan/kv-bytes.ts";
export {
  type CachePart,
  type ContextRow,
  type ContextTable,
  type PlanTable,
  type PlanTableOptions,
  planTable,
  type WeightPart,
} from "./study/plan/plan-table.ts";
export { plannedCpu, plannedGpu, plannedModel } from "./study/plan/planned.ts";
