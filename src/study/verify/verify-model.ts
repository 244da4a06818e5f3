/**
 * Studies a MODEL by name (Node only): opens it once to plan and once for each format, with the logits of f16 in a
 * temporary file, which it removes. Also provides the default text.
 */
import { readFile } from "node:fs/promises";
import { PAGE_SLOTS } from "../../device/contract.ts";
import { findModel } from "../../engine/find-model.ts";
import { type LoadOptions, openDevice } from "../../engine/load.ts";
import { loadCheckpoint, tokenizerOf } from "../../engine/load-checkpoint.ts";
import { codecsOf } from "../../engine/plan.ts";
import { Text } from "../../engine/text.ts";
import { ArgumentError, throwIfAborted } from "../../format/errors.ts";
import { openCheckpoint } from "../../format/open.ts";
import type { Tokenizer } from "../../format/tokenizer.ts";
import { attentionsOf } from "../../model/config.ts";
import { type Model, openModel } from "../../model/model.ts";
import { LogitsFile } from "./logits-file.ts";
import { type VerifyOptions, type VerifySource, verify } from "./verify.ts";
import type { VerifyRow } from "./verify-rows.ts";
import { planStudy, type StudyLayer, type VerifyTests } from "./verify-tests.ts";

/** Options of `verifyModel`. */
export interface VerifyModelOptions
  extends VerifyTests,
    VerifyOptions,
    Pick<LoadOptions, "device" | "adapter" | "kernels" | "threads" | "wideSimd" | "chunk">,
    Pick<LoadOptions, "memoryBytes" | "offline" | "onDownload"> {
  /**
   * Instead of cache formats, a model whose weights are compared with this one's, both with f16 caches: a file
   * quantized from it. What `load` takes.
   */
  against?: string;
  /** The text to read. Default: six chapters of Jane Austen's Persuasion, which ship with Nibble. */
  text?: string;
  onLoad?: LoadOptions["onProgress"];
}

/** Layers that have a cache of their own. */
function layersOf(model: Model): StudyLayer[] {
  const own = attentionsOf(model.config).filter(({ layer, spec }) => spec.cacheOf === layer);
  return own.map(({ layer }) => ({ layer, formatOf: (kv) => codecsOf(model, kv)(layer).name }));
}

/**
 * Tokens whose logits a step returns: a page, since a format packs pages after steps. So a position sees the same
 * packed tokens as in generation; in longer steps more of them would still be exact.
 */
const OUTPUTS = PAGE_SLOTS;
/** A sample of the text, to check that two files tokenize it alike. */
const COMPARED_CHARACTERS = 2000;
const TEXT = "../../../models/texts/persuasion.txt";

/**
 * What each cache format costs this model: rows as they are measured. `name`: what `load` takes. Throws what `load`
 * does, ArgumentError for tests that the model or the text cannot provide, and NibbleError "io" if the logits do not
 * fit the disk.
 */
export async function* verifyModel(
  name: string,
  options: VerifyModelOptions = {},
): AsyncGenerator<VerifyRow, void> {
  const { signal, onLoad, chunk, memoryBytes } = options;
  throwIfAborted(signal, "verifying");
  const text = options.text ?? (await readFile(new URL(TEXT, import.meta.url), "utf8"));
  const path = await findModel(name, options);
  const other = options.against === undefined ? null : await otherModel(options);
  const looked = await openCheckpoint(path);
  const study = await (async () => {
    const model = await openModel(looked);
    const { trainedContext } = model.config;
    const [tokenizer, template] = [await looked.tokenizer(), await looked.chatTemplate()];
    // Only inspected: each format's allocation has a device of its own.
    const device = await openDevice(options);
    const study = planStudy({ tokenizer, template, trainedContext, device }, text, options);
    if (other) {
      await checkVocabulary(other, model.config.vocab, tokenizer, text);
      return { ...study, formats: [other.label] };
    }
    return options.layers ? { ...study, layers: layersOf(model) } : study;
  })().finally(() => looked.close());

  const open = async (asked: string): Promise<VerifySource> => {
    const isOther = other !== null && asked === other.label;
    const kv = isOther ? "f16" : asked;
    const checkpoint = await openCheckpoint(isOther ? other.path : path);
    const outputs = Math.min(OUTPUTS, chunk ?? OUTPUTS);
    const { scheduler, device, plan, allocation, extra } = await loadCheckpoint(
      checkpoint,
      () => openDevice(options),
      { kv, context: study.context, memoryBytes, chunk, outputs, onProgress: onLoad, signal },
      async (model) => ({ tokenizer: await tokenizerOf(model) }),
    );
    return {
      text: new Text(scheduler),
      device: device.description,
      cacheBytes: plan.cacheBytes,
      tokenizer: extra.tokenizer,
      async close() {
        try {
          await allocation.close();
        } finally {
          await checkpoint.close();
        }
      },
    };
  };
  const truth = new LogitsFile();
  try {
    yield* verify(study, open, truth, options);
  } finally {
    await truth.close();
  }
}

interface OtherModel {
  readonly path: string;
  /** What is printed in the place of a format's name. */
  readonly label: string;
}

async function otherModel(options: VerifyModelOptions): Promise<OtherModel> {
  const { against = "", kv, layers } = options;
  if (kv !== undefined)
    throw new ArgumentError("kv", kv.join(), "nothing together with against: both files are read over f16");
  if (layers)
    throw new ArgumentError("layers", true, "nothing together with against: both files are read over f16");
  const path = await findModel(against, options);
  return { path, label: `${against.replace(/^.*[\\/]/, "")} (f16 cache)` };
}

/** Distributions can be compared only if each id means the same token. */
async function checkVocabulary(
  { path, label }: OtherModel,
  vocab: number,
  tokenizer: Tokenizer,
  text: string,
) {
  const checkpoint = await openCheckpoint(path);
  try {
    const { config } = await openModel(checkpoint);
    const found = await checkpoint.tokenizer();
    const some = text.slice(0, COMPARED_CHARACTERS);
    const isSame = found.encode(some).join() === tokenizer.encode(some).join();
    if (config.vocab !== vocab || !isSame)
      throw new ArgumentError(
        "against",
        `${label}, which has another vocabulary (${config.vocab} tokens)`,
        `a file with the same ${vocab} tokens, such as one that was quantized from this model`,
      );
  } finally {
    await checkpoint.close();
  }
}
