/**
 * The library: what `import ... from "nibble-llm"` gives, and all that the command line is built on. These
 * are the public names; anything else may change without notice.
 *
 *     import { load } from "nibble-llm";
 *     const model = await load("hf:Qwen/Qwen3-4B-GGUF", { kv: "int4" });
 *     for await (const { text } of model.generate("What is a whale?")) process.stdout.write(text);
 *     await model.close();
 */
export { Answer, type AnswerResult, ObjectError } from "./answer/answer.ts";
export { BusyError, PlaceError } from "./answer/errors.ts";
export { load } from "./answer/load.ts";
export { type AnswerOptions, LanguageModel } from "./answer/model.ts";
export type { AnswerPart, ToolCall } from "./answer/parts.ts";
export { type RunToolsOptions, runTools, type ToolsResult } from "./answer/run-tools.ts";
export type { JsonSchema, ObjectOf, Schema, StandardSchema } from "./answer/schema.ts";
export { type Tool, tool } from "./answer/tool.ts";
export { DEFAULT_KV } from "./cache/codecs.ts";
export { FORMAT_NAMES, layerFormats } from "./cache/format-layers.ts";
export {
  CATALOG,
  CATALOG_DATE,
  type CatalogEntry,
  nearestModels,
} from "./engine/catalog.ts";
export type { CustomSampler } from "./engine/custom-sampler.ts";
export {
  type EmbeddingFacts,
  type Embeddings,
  type EmbedOptions,
  POOLINGS,
  type Pooling,
} from "./engine/embed.ts";
export type { FindOptions } from "./engine/find-model.ts";
export {
  type GenerateOptions,
  Generation,
  type GenerationResult,
  type Piece,
  type StopReason,
} from "./engine/generate.ts";
export type { Prompt, PromptOptions } from "./engine/language-model.ts";
export type { Likelihood, TokenLogprob } from "./engine/likelihood.ts";
export type { LoadOptions, LoadProgress } from "./engine/load.ts";
export { type Machine, thisMachine } from "./engine/machine.ts";
export { OpenText } from "./engine/open-text.ts";
export type { Plan, PlannedDevice, PlanOptions } from "./engine/plan.ts";
export {
  type Quantized,
  type QuantizeOptions,
  type QuantizeProgress,
  quantizeModel,
} from "./engine/quantize.ts";
export type { ImportanceSource } from "./engine/quantize-weights.ts";
export { type SampleOptions, type Sampler, sampler } from "./engine/sample.ts";
export type { Constraint } from "./engine/tokens.ts";
export { documentText } from "./format/documents.ts";
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
export { fileSource } from "./format/file-source.ts";
export type { PullProgress } from "./format/hub/downloads.ts";
export { type InstalledModel, installedModels, type Removed, removeModel } from "./format/hub/installed.ts";
export { isHubName } from "./format/hub/name.ts";
export { type Pulled, type PullOptions, pull } from "./format/hub/pull.ts";
export type { PromptMessage, TextPart } from "./format/plain-messages.ts";
export { atOnce, inSlices, type Slices } from "./format/slices.ts";
export type { Source } from "./format/source.ts";
export type {
  ChatMessage,
  ChatTemplate,
  RenderOptions,
} from "./format/template.ts";
export { withDocument } from "./format/template-prompt.ts";
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
export { openAttendTimer } from "./study/attend/open-timer.ts";
export type {
  BenchFinding,
  BenchOptions,
  BenchProfile,
  BenchProgress,
  BenchRow,
  OperationProfile,
} from "./study/bench/bench.ts";
export type { BatchRow } from "./study/bench/bench-batch.ts";
export { Bench, type BenchLoadOptions, openBench, type SyntheticModel } from "./study/bench/bench-model.ts";
export type { QuoteRow } from "./study/bench/bench-quote.ts";
export type { BenchTests } from "./study/bench/bench-tests.ts";
export { type AdapterFinding, type Diagnosis, diagnose, type SpeedBound } from "./study/doctor.ts";
export {
  type Inspection,
  inspect,
  type KvSize,
  type TensorSummary,
  type TokenizerSummary,
} from "./study/inspect.ts";
export { type KernelText, kernelTexts } from "./study/kernel-texts.ts";
export { type KvRate, kvBytes, kvRates, ratesByFormat } from "./study/plan/kv-bytes.ts";
export { modelsForMachine, type PlanModelOptions, planModel } from "./study/plan/plan-model.ts";
export {
  type CachePart,
  type ContextRow,
  type ContextTable,
  type PlanTable,
  type PlanTableOptions,
  planTable,
  type StatePart,
  type WeightPart,
} from "./study/plan/plan-table.ts";
export { plannedCpu, plannedGpu, plannedModel } from "./study/plan/planned.ts";
export type { SuitedModel } from "./study/plan/suited-models.ts";
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
