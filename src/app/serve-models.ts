/**
 * What `nibble serve` offers: one model, loaded at once, or several that are loaded when they are asked for. Distributes
 * the options to the models, and prints the lines about loads and answers.
 */
import { Grammars } from "../answer/grammar/grammars.ts";
import {
  ArgumentError,
  type GenerationResult,
  inspect,
  isHubName,
  type LanguageModel,
  type Plan,
  type Pooling,
  pull,
  type SampleOptions,
} from "../index.ts";
import { bytes, grouped, guessedWords, perSecond } from "../plot/numbers.ts";
import { unknownFields } from "./api/field-rules.ts";
import { Metrics } from "./api/metrics.ts";
import { modelFacts } from "./api/model-facts.ts";
import { alone, type Look, type Offered, type Shared } from "./api/offered.ts";
import { type ModelSource, OnDemand, type Opened, type Opening } from "./api/on-demand.ts";
import type { Served } from "./api/served.ts";
import { printMessage } from "./exit.ts";
import { loadModel, type ModelOptions } from "./load-model.ts";
import { isModelFolder, modelId, modelSources } from "./model-files.ts";
import { downloadLine } from "./pull.ts";

export interface OfferOptions extends ModelOptions, SampleOptions {
  alias: string[];
  tokens?: number;
  parallel: number;
  queue: number;
  maxBody?: number;
  strict?: boolean;
  pooling?: Pooling;
  /** Minutes; negative: for ever. */
  keep?: number;
}

export interface Serving {
  readonly offered: Offered;
  /** What is served, and its description for people. */
  readonly name: string;
  readonly about: string;
  close(): Promise<void>;
}

/** A conversation's cache is lost with its model, so a model stays longer than the pause between two questions. */
const KEEP_MINUTES = 30;
/** The assumed context where none was asked for, for the bound on requests. */
const LIKELY_CONTEXT = 131_072;

/** closing: fires when the server stops waiting for answers. signal: ends the loading of one model. */
export async function openServing(
  models: readonly string[],
  options: OfferOptions,
  closing: AbortSignal,
  signal: AbortSignal,
): Promise<Serving> {
  const isSeveral = models.length > 1 || options.keep !== undefined || (await isModelFolder(models[0]));
  return isSeveral
    ? openSeveral(models, options, closing, signal)
    : openOne(models[0], options, closing, signal);
}

async function openOne(
  name: string,
  options: OfferOptions,
  closing: AbortSignal,
  signal: AbortSignal,
): Promise<Serving> {
  const model = await loadModel(name, options, signal);
  const [first = modelId(name), ...others] = options.alias;
  const names = [first, ...others, modelId(name), name] as const;
  const created = Math.floor(Date.now() / 1000);
  const shared = sharedOf(options, model.plan.context);
  const { served, close } = servedOf(model, { names, created }, { options, shared, closing });
  const { kv, context, cacheBytes, cacheTokens, parallel } = model.plan;
  const together = parallel > 1 ? `, ${grouped(cacheTokens)} for ${parallel} at once` : "";
  return {
    offered: alone(served),
    name: first,
    about: `${grouped(context)} tokens of context${together}, ${bytes(cacheBytes)} ${kv} · ${model.device}`,
    close,
  };
}

async function openSeveral(
  models: readonly string[],
  given: OfferOptions,
  closing: AbortSignal,
  signal: AbortSignal,
): Promise<Serving> {
  const { keep = KEEP_MINUTES, parallel, queue, context, offline } = given;
  if (context === 0) throw new ArgumentError("context", context, "integers from 1 on");
  const download = async (name: string) => {
    const line = downloadLine();
    return (await pull(name, { offline, signal, onProgress: line.show }).finally(line.clear)).path;
  };
  const sources = await modelSources(models, given.alias, download);
  const draft = given.draft && isHubName(given.draft) ? await download(given.draft) : given.draft;
  const options = { ...given, draft };
  const shared = sharedOf(options, context ?? LIKELY_CONTEXT);
  const offered = new OnDemand({
    ...{ sources, shared },
    look: (source) => look(source, options),
    keepMs: keep < 0 ? Number.POSITIVE_INFINITY : keep * 60_000,
    mostWaiting: parallel + queue,
    open: (source, opening) => openModel(source, opening, { options, shared, closing }),
    note: (line) => printMessage(null, line),
  });
  closing.addEventListener("abort", () => offered.stop());
  const kept = keep < 0 ? "for ever" : `${keep} min`;
  return {
    offered,
    name: `${sources.length} ${sources.length === 1 ? "model" : "models"}`,
    about: `${listed(sources.map(({ names }) => names[0]))} · loaded when asked for, kept ${kept} unused`,
    close: () => offered.close(),
  };
}

const MOST_LISTED = 8;

function listed(names: readonly string[]): string {
  const more = names.length - MOST_LISTED;
  return `${names.slice(0, MOST_LISTED).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

interface Around {
  readonly options: OfferOptions;
  readonly shared: Shared;
  readonly closing: AbortSignal;
}

async function openModel(
  source: ModelSource,
  { signal, room, progress, hold }: Opening,
  around: Around,
): Promise<Opened> {
  const attempt = (options: ModelOptions) => {
    // Bytes of the model and its draft model.
    let needed = 0;
    const onPlan = ({ totalBytes, limitBytes, memory }: Plan) => {
      needed += totalBytes;
      // If the amount of memory is unknown, one model is loaded at a time.
      return room(needed, memory === null ? needed : limitBytes);
    };
    return loadModel(source.source, options, signal, { onPlan, onProgress: progress });
  };
  const model = await withoutUnfit(source.names[0], around.options, attempt);
  const { served, close } = servedOf(model, source, around, hold);
  return { served, facts: modelFacts(model), close };
}

/** Not every model can have the context or the draft of the others: it is then loaded without, with a message. */
async function withoutUnfit(
  name: string,
  options: ModelOptions,
  attempt: (options: ModelOptions) => Promise<LanguageModel>,
): Promise<LanguageModel> {
  try {
    return await attempt(options);
  } catch (error) {
    const isUnfit =
      error instanceof ArgumentError && (error.argument === "context" || error.argument === "draft");
    if (!isUnfit) throw error;
    printMessage(null, `${name} goes without --${error.argument}: ${error.message}`);
    return withoutUnfit(name, { ...options, [error.argument]: undefined }, attempt);
  }
}

async function look({ source }: ModelSource, { offline }: ModelOptions): Promise<Look> {
  const { config, template } = await inspect(source, { offline });
  return { config, template, sampling: {}, pooling: null };
}

function sharedOf({ strict, maxBody }: OfferOptions, context: number): Shared {
  return {
    metrics: new Metrics(),
    mostBodyBytes: maxBody ?? 2 ** 20 + 32 * context,
    unknownField: unknownFields(strict === true, printMessage),
    log: (error) => printMessage(error),
    refused: (line) => printMessage(null, line),
  };
}

function servedOf(
  model: LanguageModel,
  { names, created }: Pick<Served, "names" | "created">,
  { options, shared, closing }: Around,
  hold?: () => () => void,
): { served: Served; close(): Promise<void> } {
  const { temperature, topK, topP, minP, repeatPenalty, seed, tokens, pooling, queue } = options;
  const grammars = new Grammars(model.tokenizer, model.config.vocab);
  const served: Served = {
    ...{ ...shared, model, grammars, names, created, pooling, closing, hold },
    defaults: { temperature, topK, topP, minP, repeatPenalty, seed, maxTokens: tokens },
    mostWaiting: queue,
    failure: null,
    done: process.stderr.isTTY
      ? (result, seconds) => report(hold ? `${names[0]}: ` : "", result, seconds)
      : undefined,
  };
  const close = () => {
    grammars.close();
    return model.close();
  };
  return { served, close };
}

/** A line for each answer, for the operator. */
function report(name: string, result: GenerationResult, seconds: number): void {
  const { promptTokens, reusedTokens, promptMs, generatedTokens, generateMs } = result;
  const guessed = guessedWords(result);
  const parts = [
    `${new Date().toLocaleTimeString("en-GB")} ${name}prompt ${grouped(promptTokens)} tokens, ${grouped(reusedTokens)} from the cache`,
    `read${perSecond(promptTokens - reusedTokens, promptMs) || " nothing"}`,
    // The first token comes with the prompt: n tokens are n - 1 steps.
    `answer ${grouped(generatedTokens)} tokens${perSecond(generatedTokens - 1, generateMs)}`,
    ...(guessed === "" ? [] : [guessed]),
    `${seconds.toFixed(1)} s`,
  ];
  process.stderr.write(`${parts.join(" · ")}\n`);
}
