/**
 * What `verify` measures: a text as tokens, the windows in which positions are measured, and the needles, with defaults
 * and checks, so that a wrong test is reported before loading. Pure.
 */
import { layerFormats } from "../../cache/format-layers.ts";
import { checkFormat } from "../../device/check.ts";
import { formatsOf } from "../../engine/kv-names.ts";
import type { PlannedDevice } from "../../engine/plan.ts";
import { ArgumentError } from "../../format/errors.ts";
import type { ChatTemplate } from "../../format/template.ts";
import { encodePrompt } from "../../format/template-prompt.ts";
import type { Tokenizer } from "../../format/tokenizer.ts";
import { ANSWER_TOKENS, type Haystack, haystack } from "./needles.ts";

/** What a verification measures. */
export interface VerifyTests {
  /** Formats to compare with f16. Default: all named ones that the device has. */
  kv?: readonly string[];
  /**
   * Tokens before the first measured position; needles are hidden at the same depths from 512 on, if question and
   * answer fit, too. Default: 0, 1,024 and 4,096, on a GPU also 16,384, as far as the text, the model and `context`
   * allow.
   */
  depths?: readonly number[];
  /** Positions measured from each depth on, up to the next depth. Default 256. */
  positions?: number;
  /** Documents of needles for each depth, five facts each. Default 2; 0: none. */
  needles?: number;
  /** Also each layer alone in the format, all others in f16: one reading of the text for each layer. Default false. */
  layers?: boolean;
  /** The longest context that a default depth may need. Default: the trained length. */
  context?: number;
}

/** What is measured, in tokens of one model. */
export interface Study {
  readonly ids: readonly number[];
  /** Positions [from, to), ascending. */
  readonly windows: readonly { readonly from: number; readonly to: number }[];
  readonly haystacks: readonly Haystack[];
  /** Compared with f16. */
  readonly formats: readonly string[];
  /** The context that all of it needs. */
  readonly context: number;
  /** Layers that each format is also measured in alone. Default: none. */
  readonly layers?: readonly StudyLayer[];
}

export interface StudyLayer {
  readonly layer: number;
  /** The format of this layer, for a format that may differ by layer. */
  formatOf(kv: string): string;
}

/** What planning needs of the model. */
export interface StudySubject {
  readonly tokenizer: Tokenizer;
  /** null: the model has none. */
  readonly template: ChatTemplate | null;
  readonly trainedContext: number;
  readonly device: Pick<PlannedDevice, "name" | "kvFormats" | "kvParts">;
}

const DEPTHS = [0, 1024, 4096];
/** For a large model, a CPU takes hours to read a long prompt in each format. */
const GPU_DEPTHS = [...DEPTHS, 16_384];
const POSITIONS = 256;
const DOCUMENTS = 2;
/** Shorter documents have no space for five facts. */
const NEEDLE_TOKENS = 512;
/** No tokenizer's tokens are longer on average. */
const MOST_CHARACTERS = 64;

/**
 * Checks the tests and tokenizes. Throws ArgumentError for wrong ones and for a text that is too short,
 * UnsupportedError for a format that the device does not have.
 */
export function planStudy(subject: StudySubject, text: string, tests: VerifyTests = {}): Study {
  const { tokenizer, template, trainedContext, device } = subject;
  const { positions = POSITIONS, needles = DOCUMENTS } = tests;
  const count = (name: string, value: number, least: number, most: number) => {
    if (!(Number.isInteger(value) && value >= least && value <= most))
      throw new ArgumentError(name, value, `integers ${least} to ${most}`);
  };
  const { context: limit = trainedContext } = tests;
  count("context", limit, 1, trainedContext);
  count("positions", positions, 1, limit);
  count("needles", needles, 0, 1000);
  const formats = [...new Set(tests.kv ?? formatsOf(device))].filter((kv) => kv !== "f16");
  if (formats.length === 0) throw new ArgumentError("kv", "f16 alone", "formats to compare with f16");
  for (const kv of formats) for (const codec of layerFormats(kv).codecs) checkFormat(codec, device);

  const asked = tests.depths ? [...new Set(tests.depths)].sort((a, b) => a - b) : depthsOf(device);
  if (asked.length === 0) throw new ArgumentError("depths", "empty", "at least one depth");
  const deepest = Math.max(...asked);
  // Books are longer than what is read of them.
  const enough = text.slice(0, MOST_CHARACTERS * (Math.min(deepest, limit) + positions + 1));
  const ids = encodePrompt(tokenizer, enough, { template: false });
  const fits = (depth: number) => depth + positions <= limit && depth + positions < ids.length;
  if (tests.depths) for (const depth of asked) checkDepth(depth, positions, limit, ids.length);
  else checkDepth(0, positions, limit, ids.length);
  const depths = tests.depths ? asked : asked.filter(fits);

  const windows = depths.map((from, i) => ({ from, to: Math.min(from + positions, depths[i + 1] ?? limit) }));
  const haystacks = depths
    .filter((depth) => depth >= NEEDLE_TOKENS)
    .flatMap((tokens) =>
      Array.from({ length: needles }, (_, number) => haystack(tokenizer, template, enough, tokens, number)),
    )
    .filter((one) => needleContext(one) <= limit);
  const context = Math.max(...windows.map(({ to }) => to), ...haystacks.map(needleContext));
  return { ids, windows, haystacks, formats, context };
}

function depthsOf({ name }: StudySubject["device"]): readonly number[] {
  return name === "gpu" ? GPU_DEPTHS : DEPTHS;
}

function checkDepth(depth: number, positions: number, context: number, tokens: number): void {
  if (!(Number.isInteger(depth) && depth >= 0 && depth + positions <= context))
    throw new ArgumentError(
      "depths",
      depth,
      `integers 0 to ${context - positions}, so that ${positions} positions fit a context of ${context}`,
    );
  // The last position is judged by the token after it.
  if (depth + positions >= tokens)
    throw new ArgumentError(
      "text",
      `${tokens} tokens long`,
      `at least ${depth + positions + 1} for ${positions} positions from ${depth} on; give a longer text, fewer positions or smaller depths`,
    );
}

function needleContext({ needles }: Haystack): number {
  return Math.max(...needles.map(({ ids }) => ids.length)) + ANSWER_TOKENS;
}
