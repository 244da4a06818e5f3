/**
 * `nibble bench`: the library's measurements as a table or as JSON lines. Rows go to stdout as they come, progress to
 * stderr when that is a terminal. Defines the layout and the names in the JSON.
 */
import { setMaxListeners } from "node:events";
import {
  ArgumentError,
  type BatchRow,
  type Bench,
  type BenchFinding,
  type BenchLoadOptions,
  type BenchProfile,
  openBench,
  type QuoteRow,
  type SyntheticModel,
} from "../index.ts";
import { bytes, columns, grouped, perSecond, rounded } from "../plot/numbers.ts";
import { readText } from "./input.ts";
import { write } from "./interrupt.ts";
import { type Progress, progress } from "./progress.ts";
import { downloadLine } from "./pull.ts";

export interface BenchCommand
  extends Pick<
    BenchLoadOptions,
    "device" | "adapter" | "kernels" | "threads" | "wideSimd" | "chunk" | "draft" | "offline"
  > {
  prompt: number[];
  generate: number[];
  depth: number[];
  repetitions: number;
  parallel?: number[];
  /** A file. */
  quote?: string;
  /** Bytes. */
  memory?: number;
  profile?: boolean;
  shape?: string;
  layers?: number;
  vocab?: number;
  type?: string;
  kv: string;
  json?: boolean;
}

export async function printBench(model: string | undefined, command: BenchCommand, signal: AbortSignal) {
  const { kv, device, adapter, kernels, threads, chunk, offline, depth, repetitions, profile } = command;
  const { parallel, memory: memoryBytes, wideSimd } = command;
  const quote = command.quote === undefined ? undefined : await readText(command.quote, signal);
  const tests = { prompt: lengths(command.prompt), generate: lengths(command.generate), depth, repetitions };
  const loading = progress("loading", (done, total) => `${bytes(done)} of ${bytes(total)}`);
  const downloading = downloadLine();
  const bench = await openBench(
    sourceOf(model, command),
    { ...tests, profile, parallel, quote },
    {
      ...{
        kv,
        memoryBytes,
        device,
        adapter,
        kernels,
        threads,
        wideSimd,
        chunk,
        draft: command.draft,
        offline,
        signal,
      },
      onDownload: downloading.show,
      onProgress: ({ bytes: done, totalBytes }) => {
        downloading.clear();
        loading.show(done, totalBytes);
      },
    },
  ).finally(() => {
    downloading.clear();
    loading.clear();
  });
  try {
    const name = model ?? command.shape ?? "";
    const found = shown(bench, signal);
    if (command.json)
      for await (const row of found) await write(`${JSON.stringify(toJson(bench, name, row))}\n`, signal);
    else await printTables(bench, name, found, signal);
  } finally {
    await bench.close();
  }
}

/** A model by name or a shape, not both. */
function sourceOf(
  model: string | undefined,
  { shape, layers, vocab, type }: BenchCommand,
): string | SyntheticModel {
  if (model !== undefined && shape !== undefined)
    throw new ArgumentError("shape", shape, "a model or a shape, not both");
  if (shape !== undefined) return { shape, layers, vocab, type };
  if (model === undefined) throw new ArgumentError("model", "missing", "a model, or --shape");
  for (const [name, found] of Object.entries({ layers, vocab, type }))
    if (found !== undefined)
      throw new ArgumentError(name, found, "nothing without --shape: a file has its own");
  return model;
}

/** 0 means none in llama-bench. */
function lengths(found: readonly number[]): number[] {
  return found.filter((length) => length !== 0);
}

/** The bench's rows, with a progress line between them that never mixes with the output. */
async function* shown(bench: Bench, signal: AbortSignal): AsyncGenerator<BenchFinding> {
  // Each text of a test adds a listener.
  setMaxListeners(0, signal);
  let doing = "";
  let line: Progress = { show() {}, clear() {} };
  let started = 0;
  try {
    for await (const row of bench.run({
      signal,
      onProgress(now) {
        if (now.doing !== doing) {
          line.clear();
          doing = now.doing;
          started = performance.now();
          line = progress(doing, (done, total) => {
            const speed = perSecond(done, performance.now() - started);
            return `${grouped(done)} of ${grouped(total)} tokens${speed}`;
          });
        }
        line.show(now.done, now.total);
      },
    })) {
      line.clear();
      yield row;
    }
  } finally {
    line.clear();
  }
}

/** Profiles are kept for the end, so that the rows stay one table. */
async function printTables(
  bench: Bench,
  name: string,
  found: AsyncGenerator<BenchFinding>,
  signal: AbortSignal,
): Promise<void> {
  const { plan } = bench;
  const parts = [
    `${name} (${bench.layers} layers)`,
    `${bytes(plan.weightBytes)} of ${bench.type} weights`,
    `${plan.kv} cache, ${bytes(plan.cacheBytes)} for ${grouped(plan.cacheTokens)} tokens`,
    `chunks of ${plan.graph.maxTokens}`,
    bench.device,
  ];
  const head = bench.isBatch
    ? columns(BATCH_HEAD, BATCH)
    : bench.isQuote
      ? columns(QUOTE_HEAD, QUOTE)
      : columns(["test", "tokens/s", "least", "most"], ROW);
  await write(`${parts.join(" · ")}\n\n${head}\n`, signal);
  const profiles: BenchProfile[] = [];
  for await (const row of found) {
    if (row.kind === "profile") profiles.push(row);
    else if (row.kind === "quote") await write(`${columns(quoteCells(row), QUOTE)}\n`, signal);
    else if (row.kind === "batch") await write(`${columns(batchCells(row), BATCH)}\n`, signal);
    else {
      const { median, min, max } = row.tokensPerSecond;
      await write(`${columns([row.test, rounded(median), rounded(min), rounded(max)], ROW)}\n`, signal);
    }
  }
  for (const profile of profiles) await write(`\n${profileText(profile).join("\n")}\n`, signal);
}

/** Widths; the first column is text and stands on the left. */
const ROW = [22, 10, 10, 10];
/** As llama-batched-bench prints them, with the tokens first. */
const BATCH_HEAD = [
  "PP",
  "TG",
  "B",
  "DEPTH",
  "N_KV",
  "T_PP s",
  "S_PP t/s",
  "T_TG s",
  "S_TG t/s",
  "T s",
  "S t/s",
];
const BATCH = [6, 7, 5, 8, 9, 9, 10, 9, 10, 9, 10];

/** Without guesses and with them, tokens a second. */
const QUOTE_HEAD = ["test", "plain", "guessed", "ratio", "drafted", "accepted", "same text"];
const QUOTE = [22, 10, 10, 7, 9, 10, 11];

function quoteCells(row: QuoteRow): string[] {
  const { test, plainTokensPerSecond: plain, guessedTokensPerSecond: guessed, ratio } = row;
  const counts = [row.drafted, row.accepted].map(String);
  return [test, rounded(plain), rounded(guessed), ratio.toFixed(2), ...counts, row.isSame ? "yes" : "no"];
}

function batchCells(row: BatchRow): string[] {
  const { pp, tg, texts, depth, tokens, prompt, generate, all } = row;
  const counts = [pp, tg, texts, depth, tokens].map(String);
  const speeds = [prompt, generate, all].flatMap(({ medianMs, tokensPerSecond }) => [
    (medianMs / 1000).toFixed(3),
    rounded(tokensPerSecond),
  ]);
  return [...counts, ...speeds];
}

const OPERATION = [18, 10, 11, 8, 10, 9, 13];

function profileText(profile: BenchProfile): string[] {
  const { operations, us, readBytesPerSecond: read, copyBytesPerSecond: copy } = profile;
  const total = operations.reduce((sum, row) => sum + row.us, 0);
  const count = operations.reduce((sum, row) => sum + row.dispatches, 0);
  const moved = operations.reduce((sum, row) => sum + row.bytes, 0);
  const line = (label: string, dispatches: number, time: number, moved: number) => {
    const traffic =
      moved > 0
        ? [
            (moved / dispatches / 1e6).toFixed(2),
            rounded(moved / time / 1e3),
            percent((moved * 1e6) / time / read),
          ]
        : [];
    return columns([label, `${dispatches}`, time.toFixed(1), percent(time / total), ...traffic], OPERATION);
  };
  return [
    `${profile.step}: ${us.toFixed(1)} us`,
    columns(["operation", "dispatches", "us", "share", "MB each", "GB/s", "of read rate"], OPERATION),
    ...operations.map(({ label, dispatches, us: time, bytes: moved }) =>
      line(label, dispatches, time, moved),
    ),
    line("all, timed apart", count, total, moved),
    line("all, as it runs", count, us, moved),
    `read rate: ${rounded(read / 1e9)} GB/s of a kernel that only reads; ${rounded(copy / 1e9)} GB/s copying`,
  ];
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)}%`;
}

/** What `--json` prints; names are part of the interface. */
function toJson(bench: Bench, model: string, row: BenchFinding) {
  const { plan } = bench;
  const { kind, ...found } = row;
  return {
    model,
    layers: bench.layers,
    type: bench.type,
    weightBytes: plan.weightBytes,
    kv: plan.kv,
    context: plan.context,
    chunk: plan.graph.maxTokens,
    device: bench.device,
    kind,
    ...found,
    date: new Date().toISOString().slice(0, 10),
    node: process.version,
  };
}
