/**
 * Collects an importance matrix: the sums of squares of the inputs of each matrix column over a text, by expert if a
 * tensor has several. An error of a weight costs as much as its column is active, so a quantizer may weigh errors by
 * their mean (llama.cpp's importance matrix). The inputs of all products get memory of their own in the graph, and are
 * read after each step. So the model has to fit in memory, which quantizing alone does not need.
 */
import type { Allocation, Device, Graph, Op, Value } from "../device/contract.ts";
import { readable } from "../device/readable.ts";
import type { Checkpoint } from "../format/checkpoint.ts";
import { ArgumentError, FormatError, throwIfAborted } from "../format/errors.ts";
import type { Tokenizer } from "../format/tokenizer.ts";
import type { Model } from "../model/model.ts";
import { loadCheckpoint, tokenizerOf } from "./load-checkpoint.ts";

/** For one tensor. */
export interface Importance {
  /** [experts, cols], with a file's precision; one row for a tensor without experts. */
  readonly sums: Float32Array;
  /** The number of rows that each expert processed. */
  readonly counts: Float32Array;
}

export interface ImportanceMatrix {
  /** By their names in a GGUF: the layers' matrices. Like llama.cpp's, it leaves out the output. */
  readonly tensors: ReadonlyMap<string, Importance>;
  /** Names of the texts. */
  readonly datasets: readonly string[];
  /** Windows that were read, and the tokens of one. */
  readonly chunks: number;
  readonly chunkTokens: number;
}

export interface CollectOptions {
  /** The text's name. */
  name: string;
  threads?: number;
  memoryBytes?: number;
  onProgress?: (progress: { readonly tokens: number; readonly totalTokens: number }) => void;
  signal?: AbortSignal;
}

/** llama.cpp's window; each is read as a separate text. */
const WINDOW = 512;
/** Tokens of a step: their inputs to all products are in memory, 17 MB for each token of a 70B. */
const STEP = 64;

/**
 * Reads `text` with an f16 cache. checkpoint: a GGUF, or a folder presented as one; it stays open. Throws ArgumentError
 * for a text shorter than one window, and what loading throws, including MemoryError.
 */
export async function collectImportance(
  checkpoint: Checkpoint,
  text: string,
  trainedContext: number,
  openDevice: () => Promise<Device>,
  options: CollectOptions,
): Promise<ImportanceMatrix> {
  const { name, memoryBytes, signal, onProgress } = options;
  const window = Math.min(WINDOW, trainedContext);
  const watching = async () => {
    const device = await openDevice();
    return {
      ...device,
      measure: (graph: Graph) => device.measure(watched(graph)),
      allocate: (graph: Graph) => device.allocate(watched(graph)),
    };
  };
  const { model, plan, allocation, extra } = await loadCheckpoint(
    { ...checkpoint, close: async () => {} },
    watching,
    {
      ...{ kv: "f16", context: window, chunk: Math.min(STEP, window), guess: 0 },
      ...{ memoryBytes, signal },
    },
    async (opened) => {
      const tokenizer = await tokenizerOf(opened);
      return { tokenizer, windows: windowsOf(tokenizer, text, window, name) };
    },
  );
  try {
    const { windows } = extra;
    const { graph } = plan;
    const totalTokens = windows.reduce((sum, { length }) => sum + length, 0);
    const tally = new Tally(graph);
    let tokens = 0;
    const blocks = [...Array(graph.blocks).keys()];
    for (const pool of graph.pools)
      allocation.setPages(
        pool,
        0,
        0,
        blocks.map((block) => block % pool.pages),
      );
    for (const ids of windows) {
      for (let position = 0; position < ids.length; position += graph.maxTokens) {
        throwIfAborted(signal, "reading the importance text");
        const some = Uint32Array.from(ids.slice(position, position + graph.maxTokens));
        const slot = (position / graph.maxTokens) & 1;
        const state = graph.states.length > 0 ? { from: position === 0 ? null : 1 - slot, to: slot } : null;
        await allocation.run({ runs: [{ text: 0, position, ids: some, outputs: 0, state }] });
        await tally.add(allocation, some.length);
        tokens += some.length;
        onProgress?.({ tokens, totalTokens });
      }
    }
    return {
      tensors: tally.byName(model),
      ...{ datasets: [name], chunks: windows.length, chunkTokens: window },
    };
  } finally {
    await allocation.close();
  }
}

/** The text's ids, each window with the start token if the model uses one. */
function windowsOf(tokenizer: Tokenizer, text: string, window: number, name: string): number[][] {
  const ids = tokenizer.encode(text);
  const start = tokenizer.addBos && tokenizer.bosId !== null ? [tokenizer.bosId] : [];
  const each = window - start.length;
  if (ids.length < each)
    throw new ArgumentError(`the importance text ${name}`, `${ids.length} tokens long`, `${each} or more`);
  const windows: number[][] = [];
  for (let first = 0; first < ids.length; first += each)
    windows.push([...start, ...ids.slice(first, first + each)]);
  return windows;
}

type Product = Extract<Op, { op: "matmul" | "expertMatmul" }>;

/** Products for all rows: those of the layers. */
function productsIn(graph: Graph): Product[] {
  return graph.ops.flatMap((op) =>
    (op.op === "matmul" || op.op === "expertMatmul") && op.x.rows === "tokens" ? [op] : [],
  );
}

function watched(graph: Graph): Graph {
  const values = productsIn(graph).flatMap((op) => (op.op === "expertMatmul" ? [op.x, op.picks] : [op.x]));
  return readable(graph, new Map(values.map((value) => [`input.${value.id}`, value])));
}

/** An importance matrix that is being collected. */
interface Met {
  readonly sums: Float64Array;
  readonly counts: Float64Array;
}

/** Sums for products. Products with the same input are counted once. */
export class Tally {
  readonly #products: Product[];
  readonly #met = new Map<string, Met>();

  constructor(graph: Graph) {
    this.#products = productsIn(graph);
  }

  /** The inputs of each product for the last step's `rows` rows. */
  async add(allocation: Allocation, rows: number): Promise<void> {
    const done = new Set<string>();
    const read = async (value: Value) => allocation.read(value, 0, rows);
    for (const product of this.#products) {
      const key = keyOf(product);
      if (done.has(key)) continue;
      done.add(key);
      const { cols } = product.weight;
      const experts = product.op === "expertMatmul" ? product.experts : 1;
      const met = this.#met.get(key) ?? empty(experts, cols);
      this.#met.set(key, met);
      const x = await read(product.x);
      if (product.op === "matmul") {
        for (let row = 0; row < rows; row++) count(met, 0, x.subarray(row * cols, (row + 1) * cols));
        continue;
      }
      const picks = await read(product.picks);
      const k = product.picks.cols / 2;
      // All picks of a row read the same, or each its own.
      const own = product.x.cols / cols > 1 ? 1 : 0;
      for (let row = 0; row < rows; row++)
        for (let pick = 0; pick < k; pick++) {
          const from = row * product.x.cols + own * pick * cols;
          count(met, picks[row * 2 * k + pick], x.subarray(from, from + cols));
        }
    }
  }

  /** By the names of the file's tensors. Throws FormatError if activations are not finite. */
  byName(model: Pick<Model, "sourceNames">): Map<string, Importance> {
    const tensors = new Map<string, Importance>();
    const taken = new Set<string>();
    const add = (name: string, more: Met, key: string) => {
      if (!name.startsWith("blk.") || taken.has(`${name} ${key}`)) return;
      taken.add(`${name} ${key}`);
      const known = tensors.get(name);
      tensors.set(name, {
        sums: Float32Array.from(more.sums, (sum, i) => sum + (known?.sums[i] ?? 0)),
        counts: Float32Array.from(more.counts, (rows, i) => rows + (known?.counts[i] ?? 0)),
      });
    };
    for (const product of this.#products) {
      const key = keyOf(product);
      const met = this.#met.get(key)!;
      const names = model.sourceNames(product.weight);
      if (!met.sums.every(Number.isFinite))
        throw new FormatError(`the input of ${names[0]}`, "activations that are no finite numbers");
      const { cols } = product.weight;
      // One tensor for all experts, or one for each.
      if (names.length === 1) add(names[0], met, key);
      else
        for (const [e, name] of names.entries())
          add(
            name,
            { sums: met.sums.slice(e * cols, (e + 1) * cols), counts: met.counts.slice(e, e + 1) },
            key,
          );
    }
    return tensors;
  }
}

const keyOf = (product: Product) =>
  product.op === "matmul" ? `${product.x.id}` : `${product.x.id} ${product.picks.id}`;

const empty = (experts: number, cols: number): Met => ({
  sums: new Float64Array(experts * cols),
  counts: new Float64Array(experts),
});

function count({ sums, counts }: Met, expert: number, x: Float32Array): void {
  const from = expert * x.length;
  for (let col = 0; col < x.length; col++) sums[from + col] += x[col] * x[col];
  counts[expert]++;
}

/**
 * A column that was inactive in this text may be active in another, so its errors count a little. llama.cpp ignores
 * them.
 */
const LEAST = 1e-6;

/**
 * The weight of an error in each column of an expert: its mean square. Divided by a power of two, so that products in a
 * search stay in float32's range. null: no information, since the text gave it no rows, or only zeros.
 */
export function columnWeights({ sums, counts }: Importance, expert: number): Float32Array | null {
  const cols = sums.length / counts.length;
  const own = sums.subarray(expert * cols, (expert + 1) * cols);
  const rows = counts[expert];
  const mean = own.reduce((sum, x) => sum + x, 0) / rows / cols;
  if (!(rows > 0 && mean > 0)) return null;
  const size = 2 ** Math.floor(Math.log2(mean));
  return Float32Array.from(own, (sum) => Math.max(sum / rows, LEAST * mean) / size);
}
