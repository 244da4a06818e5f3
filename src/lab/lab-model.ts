/**
 * A model as the lab measures it (Node only): opened once over an f16 cache, calibrated, then measured: losses by position of one
 * spec after another. The f16 logits of each text are kept in a temporary file.
 */
import { layerFormats } from "../cache/format-layers.ts";
import { checkFormat } from "../device/check.ts";
import type { Allocation, Device, Graph } from "../device/contract.ts";
import { PAGE_SLOTS } from "../device/contract.ts";
import { findModel } from "../engine/find-model.ts";
import { type LoadOptions, openDevice } from "../engine/load.ts";
import { loadCheckpoint, tokenizerOf } from "../engine/load-checkpoint.ts";
import type { Checkpoint } from "../format/checkpoint.ts";
import { ArgumentError, throwIfAborted, UnsupportedError } from "../format/errors.ts";
import { openCheckpoint } from "../format/open.ts";
import type { ChatTemplate } from "../format/template.ts";
import { encodePrompt } from "../format/template-prompt.ts";
import type { Tokenizer } from "../format/tokenizer.ts";
import { fingerprint } from "../model/fingerprint.ts";
import { type Model, openModel } from "../model/model.ts";
import { type Distribution, distribution, divergence } from "../study/verify/divergence.ts";
import { LogitsFile } from "../study/verify/logits-file.ts";
import { type Calibration, calibrate } from "./calibration.ts";
import { sha256 } from "./hash.ts";
import { holding } from "./holding.ts";
import type { Losses } from "./losses.ts";
import { formatOf } from "./methods/cached.ts";
import type { Methods } from "./methods/methods.ts";
import { watched } from "./queries.ts";
import { Reader, type Rewriting, UNTOUCHED } from "./reader.ts";
import { canonical, specId } from "./spec.ts";
import type { ModelEntry, Spec, TextEntry } from "./types.ts";

export interface LabModelOptions
  extends Pick<LoadOptions, "device" | "threads" | "offline" | "memoryBytes" | "onProgress" | "signal"> {
  /** The longest text, in tokens. Default 640. */
  context?: number;
}

/** One allocation per softmax scale and cache format, which are parts of the graph. */
interface Opened {
  readonly temperature: number;
  readonly kv: string;
  readonly allocation: Allocation;
  readonly graph: Graph;
  readonly model: Model;
  readonly device: Device;
  readonly cacheBytes: number;
  close(): Promise<void>;
}

/** The exact results for one text at one temperature. */
interface Truth {
  readonly file: LogitsFile;
  readonly sums: Pick<Distribution, "logSum" | "top">[];
}

export class LabModel {
  readonly #path: string;
  readonly #options: LabModelOptions;
  #opened: Opened;
  #calibration: Calibration | null = null;
  readonly #truths = new Map<string, Truth>();

  private constructor(
    readonly name: string,
    /** Fingerprint. */
    readonly id: string,
    readonly tokenizer: Tokenizer,
    /** null: the model has none. */
    readonly template: ChatTemplate | null,
    path: string,
    options: LabModelOptions,
    opened: Opened,
  ) {
    this.#path = path;
    this.#options = options;
    this.#opened = opened;
  }

  /**
   * name: what `load` takes. What `load` throws, and UnsupportedError for recurrent layers.
   */
  static async open(name: string, options: LabModelOptions = {}): Promise<LabModel> {
    const path = await findModel(name, options);
    const opened = await open(path, 1, "f16", options);
    try {
      const { model, graph } = opened;
      const id = (await fingerprint(model, graph)).model;
      const template = await model.checkpoint.chatTemplate();
      return new LabModel(name, id, await tokenizerOf(model), template, path, options, opened);
    } catch (error) {
      await opened.close();
      throw error;
    }
  }

  /** Its device does not pause within a step: formats are measured in caches of their own. */
  get fused(): boolean {
    return !this.#opened.device.pauses;
  }

  get device(): string {
    return this.#opened.device.description;
  }

  /** UnsupportedError for a cache format that its device has no kernels for. */
  checkFormat(format: string): void {
    for (const codec of layerFormats(format).codecs) checkFormat(codec, this.#opened.device);
  }

  /** Layers that have a cache. */
  get layers(): number[] {
    return this.#opened.graph.caches.map(({ layer }) => layer);
  }

  /** The head size of the first layer that has a cache. */
  get headDim(): number {
    return this.#opened.graph.caches[0].headDim;
  }

  /** Bytes of the f16 cache. */
  get cacheBytes(): number {
    return this.#opened.cacheBytes;
  }

  get facts(): ModelEntry["facts"] | null {
    return this.#calibration?.facts ?? null;
  }

  /** The first `tokens` ids of prose as the model takes it, with its start token; ArgumentError when it is too short. */
  encode(name: string, body: string, tokens: number): number[] {
    const ids = encodePrompt(this.tokenizer, body, { template: false });
    if (ids.length < tokens)
      throw new ArgumentError(`text ${name}`, `${ids.length} tokens long`, `at least ${tokens}`);
    return ids.slice(0, tokens);
  }

  /** Ids as an entry. */
  text(name: string, split: TextEntry["split"], ids: readonly number[], from: number): TextEntry {
    const id = sha256(canonical({ ids, from }));
    const at = new Date().toISOString();
    return { kind: "text", id, at, name, split, model: this.id, tokens: ids.length, from, ids };
  }

  /** The model's greedy continuation of a prompt over f16: at most `most` tokens, up to its end token. */
  async answer(prompt: readonly number[], most: number, signal?: AbortSignal): Promise<number[]> {
    const { graph, allocation } = await this.#at(1);
    return new Reader(allocation, graph).answer(prompt, most, this.tokenizer.endIds, signal);
  }

  /** Reads a text of its own over f16, for the keys' means and facts. */
  async calibrate(body: string, tokens = 256, signal?: AbortSignal): Promise<ModelEntry> {
    const { graph, allocation, model } = await this.#at(1);
    const ids = this.encode("for calibration", body, Math.min(tokens, graph.blocks * PAGE_SLOTS));
    this.#calibration = await calibrate(new Reader(allocation, graph), graph, model.config, ids, signal);
    const { family } = model.config;
    const at = new Date().toISOString();
    const { facts, profile } = this.#calibration;
    return { kind: "model", id: this.id, at, name: this.name, family, facts, profile };
  }

  /** KL from f16 of the first `rung` positions from the text's `from` on. */
  async measure(
    spec: Spec,
    text: TextEntry,
    rung: number,
    draw: number,
    methods: Methods,
    signal?: AbortSignal,
  ): Promise<Losses> {
    const kl = new Float32Array(rung);
    const same: boolean[] = [];
    for await (const { found, truth } of this.compare(spec, text, rung, draw, methods, signal)) {
      kl[same.length] = divergence(truth!, found);
      same.push(truth!.top === found.top);
    }
    return { kl, same };
  }

  /** The same position by position, each with the f16 result. spec null: f16, which has nothing to compare with. */
  async *compare(
    spec: Spec | null,
    text: TextEntry,
    rung: number,
    draw: number,
    methods: Methods,
    signal?: AbortSignal,
  ): AsyncGenerator<{ found: Distribution; truth: Distribution | null }, void> {
    const { from } = text;
    if (!(Number.isInteger(rung) && rung >= 1 && from + rung <= text.tokens))
      throw new ArgumentError("rung", rung, `integers 1 to ${text.tokens - from}, what ${text.name} has`);
    const ids = text.ids.slice(0, from + rung);
    const temperature = spec?.temperature ?? 1;
    const fused = spec && this.fused ? this.#formatFor(spec, draw) : null;
    const truth = await this.#truth(ids, text, temperature, signal);
    const wanted = async (row: number) => ({ ...truth.sums[row], logits: await truth.file.get(row) });
    if (!spec) {
      for (let row = 0; row < rung; row++) {
        throwIfAborted(signal, "measuring");
        yield { found: await wanted(row), truth: null };
      }
      return;
    }
    const keys = this.#calibration?.keys ?? null;
    const how = (): Rewriting => ({
      keys: holding(spec, "keys", methods, draw, keys),
      values: holding(spec, "values", methods, draw, keys),
      ...{ sinks: spec.sinks, recent: spec.recent, layers: spec.layers },
    });
    const reader = await this.#reader(temperature, fused ?? "f16");
    let row = 0;
    for await (const logits of reader.read(ids, from, fused ? UNTOUCHED : how(), signal)) {
      yield { found: distribution(logits, from + row), truth: await wanted(row) };
      row++;
    }
  }

  async close(): Promise<void> {
    for (const { file } of this.#truths.values()) await file.close();
    this.#truths.clear();
    await this.#opened.close();
  }

  /** ArgumentError for a spec that no cache format of the device implements. */
  #formatFor(spec: Spec, draw: number): string {
    const format = formatOf(spec);
    if (format === null)
      throw new ArgumentError(
        `spec on ${this.device}`,
        specId(spec).slice(0, 12),
        "int4 g32, rq4, kv4 or a description, alike for keys and values and with nothing else changed",
      );
    if (draw !== 0) throw new ArgumentError(`draw on ${this.device}`, draw, "0: kernels round in one way");
    return format;
  }

  async #truth(
    ids: readonly number[],
    text: TextEntry,
    temperature: number,
    signal?: AbortSignal,
  ): Promise<Truth> {
    const key = `${text.id} ${temperature}`;
    const known = this.#truths.get(key);
    if (known && known.sums.length >= ids.length - text.from) return known;
    this.#truths.delete(key);
    await known?.file.close();
    const truth: Truth = { file: new LogitsFile(), sums: [] };
    try {
      const reader = await this.#reader(temperature);
      for await (const logits of reader.read(ids, text.from, UNTOUCHED, signal)) {
        const { logSum, top } = distribution(logits, text.from + truth.sums.length);
        truth.sums.push({ logSum, top });
        await truth.file.add(logits);
      }
    } catch (error) {
      // A partial file is useless.
      await truth.file.close();
      throw error;
    }
    this.#truths.set(key, truth);
    return truth;
  }

  async #reader(temperature: number, kv?: string): Promise<Reader> {
    const { allocation, graph } = await this.#at(temperature, kv);
    return new Reader(allocation, graph);
  }

  async #at(temperature: number, kv = "f16"): Promise<Opened> {
    if (this.#opened.temperature !== temperature || this.#opened.kv !== kv) {
      await this.#opened.close();
      this.#opened = await open(this.#path, temperature, kv, this.#options);
    }
    return this.#opened;
  }
}

async function open(
  path: string,
  temperature: number,
  kv: string,
  options: LabModelOptions,
): Promise<Opened> {
  const checkpoint = await openCheckpoint(path);
  const { memoryBytes, onProgress, signal } = options;
  const scaled = async () => {
    const device = await openDevice({ ...options, device: options.device ?? "cpu" });
    // Methods rewrite keys and values separately.
    const allocate = (graph: Graph) => device.allocate(changed(graph, temperature));
    return { ...device, oneVector: false, allocate };
  };
  const context = await longest(checkpoint, options.context);
  const { model, device, plan, allocation } = await loadCheckpoint(
    checkpoint,
    scaled,
    {
      ...{ kv, context, memoryBytes, onProgress, signal },
      ...{ chunk: PAGE_SLOTS, outputs: PAGE_SLOTS, guess: 0 },
    },
    async (opened) => {
      if (opened.config.layers.some(({ mixer }) => mixer.kind !== "attention"))
        throw new UnsupportedError(`${opened.config.family} in the lab: it has recurrent layers`);
      return { tokenizer: await tokenizerOf(opened) };
    },
  );
  return {
    ...{ temperature, kv, allocation, device, model, cacheBytes: plan.cacheBytes },
    graph: changed(plan.graph, temperature),
    async close() {
      try {
        await allocation.close();
      } finally {
        await checkpoint.close();
      }
    },
  };
}

/** The longest text, up to the trained context. */
async function longest(checkpoint: Checkpoint, asked = 640): Promise<number> {
  try {
    return Math.min(asked, (await openModel(checkpoint)).config.trainedContext);
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

/** The graph with every softmax scale times `temperature`, and queries that can be read. */
function changed(graph: Graph, temperature: number): Graph {
  const ops = graph.ops.map((op) => (op.op === "attend" ? { ...op, scale: op.scale * temperature } : op));
  return watched({ ...graph, ops });
}
