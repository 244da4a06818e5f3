/**
 * `nibble verify`: the library's study of cache formats as a table or as JSON lines, and as a page on request. Rows go
 * to stdout as they are measured, progress to stderr if that is a terminal.
 */
import {
  AbortedError,
  type AnswerRow,
  ArgumentError,
  type DepthRow,
  type LayerRow,
  type NeedleRow,
  type Verdict,
  type VerifyModelOptions,
  type VerifyProgress,
  type VerifyRow,
  verifyModel,
} from "../index.ts";
import { type VerifyMethodsOptions, verifyMethods } from "../lab.ts";
import { bytes, columns, grouped, perSecond } from "../plot/numbers.ts";
import { readText } from "./input.ts";
import { write } from "./interrupt.ts";
import { type Progress, progress } from "./progress.ts";
import { downloadLine } from "./pull.ts";
import { checkTarget, writeTarget } from "./target.ts";
import { printable } from "./terminal.ts";
import { MEASURED_HEADS, MEASURED_NOTE, measuredCells, percent } from "./verify-cells.ts";
import { verifyCsv } from "./verify-csv.ts";
import { verifyPage } from "./verify-page.ts";

export interface VerifyCommand extends Omit<VerifyModelOptions, "text" | "memoryBytes"> {
  /** Path. */
  text?: string;
  /** Bytes. */
  memory?: number;
  json?: boolean;
  html?: string;
  csv?: string;
  /** Paths of the lab's methods, instead of formats. */
  method?: string[];
}

export async function printVerification(
  model: string,
  command: VerifyCommand,
  signal: AbortSignal,
): Promise<void> {
  const { kv, against, depths, positions, needles, layers, context, memory: memoryBytes } = command;
  const { device, adapter, kernels, threads, wideSimd, chunk, offline } = command;
  for (const path of [command.html, command.csv]) if (path !== undefined) await checkTarget(path);
  const text = command.text === undefined ? undefined : await readText(command.text, signal);
  const lines = progressLines();
  const tests = {
    ...{
      kv,
      against,
      depths,
      positions,
      needles,
      layers,
      context,
      memoryBytes,
      device,
      adapter,
      kernels,
      threads,
      wideSimd,
      chunk,
      offline,
    },
    ...{ text, signal },
    ...lines,
  };
  const found = command.method?.length
    ? verifyMethods(model, { ...methodTests(command), text, signal, ...lines })
    : verifyModel(model, tests);
  const rows: VerifyRow[] = [];
  /** All results so far, also when the study was stopped. */
  const finish = async () => {
    if (!command.json) await write(`${summary(rows).join("\n")}\n`, signal);
    if (command.csv !== undefined) await writeTarget(command.csv, verifyCsv(model, rows));
    if (command.html === undefined) return;
    const read = command.text ?? "Persuasion (Jane Austen), chapters 1 to 6";
    await writeTarget(command.html, verifyPage({ model, read, rows, date: today() }));
  };
  try {
    for await (const row of found) {
      lines.clear();
      rows.push(row);
      const line = command.json ? JSON.stringify(toJson(model, row, rows)) : toText(model, row, rows);
      if (line !== null) await write(`${line}\n`, signal);
    }
  } catch (error) {
    // Nothing is written to a closed stdout; after Ctrl-C the results so far are written.
    if (error instanceof AbortedError && signal.reason !== 0 && rows.some(isMeasured)) {
      lines.clear();
      await finish();
    }
    throw error;
  } finally {
    lines.clear();
  }
  await finish();
}

const isMeasured = (row: VerifyRow): row is DepthRow | AnswerRow | LayerRow =>
  row.kind === "depth" || row.kind === "answer" || row.kind === "layer";

/** Checks options for a lab's method: ArgumentError for those that do not apply. */
function methodTests(command: VerifyCommand): VerifyMethodsOptions {
  const { method = [], depths, positions, layers, threads, offline, memory: memoryBytes } = command;
  const others = ["kv", "against", "needles", "context", "adapter", "kernels", "wideSimd", "chunk"] as const;
  for (const name of others)
    if (command[name] !== undefined && command[name] !== false)
      throw new ArgumentError(name, String(command[name]), "nothing together with --method");
  const device = command.device ?? "cpu";
  if (device !== "cpu" && device !== "reference")
    throw new ArgumentError("device", device, "cpu with --method: kernels of a GPU do not wait for a method");
  return { methods: method, depths, positions, layers, threads, offline, memoryBytes, device };
}

/** One line at a time: download, weights, or what is being read. */
function progressLines() {
  const downloading = downloadLine();
  const loading = progress("loading", (done, total) => `${bytes(done)} of ${bytes(total)}`);
  let doing = "";
  let reading: Progress = { show() {}, clear() {} };
  let began: { ms: number; share: number } | null = null;
  let share = 0;
  const clear = () => {
    downloading.clear();
    loading.clear();
    reading.clear();
  };
  return {
    clear,
    onDownload: downloading.show,
    onLoad: (now: { bytes: number; totalBytes: number }) => {
      downloading.clear();
      reading.clear();
      loading.show(now.bytes, now.totalBytes);
    },
    onProgress: (now: VerifyProgress) => {
      began ??= { ms: performance.now(), share: now.share };
      share = now.share;
      if (now.doing !== doing) {
        clear();
        doing = now.doing;
        const started = performance.now();
        reading = progress(doing, (done, total) => {
          const speed = perSecond(done, performance.now() - started);
          return `${grouped(done)} of ${grouped(total)} tokens${speed}${timeLeft(began, share)}`;
        });
      }
      reading.show(now.done, now.total);
    },
  };
}

/** An incomplete study gives no verdict. */
const LEAST_SHARE = 0.01;

function timeLeft(began: { ms: number; share: number } | null, share: number): string {
  if (!began || share - began.share < LEAST_SHARE) return "";
  const ms = ((performance.now() - began.ms) / (share - began.share)) * (1 - share);
  const minutes = Math.ceil(ms / 60_000);
  return minutes < 90 ? ` · about ${minutes} min left` : ` · about ${Math.round(minutes / 60)} h left`;
}

const WIDTHS = [8, 9, 10, 11, 27, 9, 9, 9, 15];

/** null: a row that the summary shows. */
function toText(model: string, row: VerifyRow, rows: readonly VerifyRow[]): string | null {
  if (row.kind === "format") {
    if (rows.length > 1) return null;
    const parts = [printable(model), printable(row.device), `${grouped(row.context)} tokens of context`];
    return `${parts.join(" · ")}\n${MEASURED_NOTE}\n\n${columns(MEASURED_HEADS, WIDTHS)}`;
  }
  return isMeasured(row) ? columns(measuredCells(row), WIDTHS) : null;
}

/** Needles, caches and verdicts, when all formats have been measured. */
function summary(rows: readonly VerifyRow[]): string[] {
  const needles = rows.filter((row): row is NeedleRow => row.kind === "needle");
  const verdicts = rows.filter((row): row is Verdict => row.kind === "verdict");
  const formats = rows.filter((row) => row.kind === "format");
  const widest = Math.max(...formats.map(({ kv }) => kv.length));
  return [
    ...needleText(needles),
    ...(verdicts.length > 0 ? [""] : []),
    ...verdicts.map(({ kv, grade, text }) => {
      const cache = formats.find((format) => format.kv === kv)!;
      return `${kv.padEnd(widest)}  ${grade} (${bytes(cache.cacheBytes)}): ${text}`;
    }),
  ];
}

function needleText(rows: readonly NeedleRow[]): string[] {
  if (rows.length === 0) return [];
  const depths = [...new Set(rows.map(({ depth }) => depth))];
  const widths = [8, 9, ...depths.map(() => 7)];
  const keys = [...new Set(rows.map(({ kv, tokens }) => JSON.stringify([kv, tokens])))];
  return [
    "",
    columns(["needles", "in tokens", ...depths.map((depth) => `at ${percent(depth, 0)}`)], widths),
    ...keys.map((key) => {
      const [kv, tokens] = JSON.parse(key) as [string, number];
      const own = rows.filter((row) => row.kv === kv && row.tokens === tokens);
      return columns([kv, grouped(tokens), ...own.map(({ right, asked }) => `${right}/${asked}`)], widths);
    }),
  ];
}

function today(): string {
  return new Date().toISOString().slice(0, 10);
}

/** What `--json` prints; names are part of the interface. */
function toJson(model: string, row: VerifyRow, rows: readonly VerifyRow[]) {
  const first = rows[0];
  const device = first.kind === "format" ? first.device : "";
  const { divergence, ...found } = "divergence" in row ? row : { divergence: null, ...row };
  return { model, device, ...found, ...divergence, date: today(), node: process.version };
}
