/**
 * `nibble verify`: the library's study of cache formats as a table or as JSON lines, and as a page on request. Rows go
 * to stdout as they come, progress to stderr when that is a terminal. Owns the layout and the names in the JSON.
 */
import {
  type NeedleRow,
  type Verdict,
  type VerifyModelOptions,
  type VerifyRow,
  verifyModel,
} from "../index.ts";
import { bytes, columns, grouped, perSecond } from "../plot/numbers.ts";
import { readText } from "./input.ts";
import { write } from "./interrupt.ts";
import { type Progress, progress } from "./progress.ts";
import { downloadLine } from "./pull.ts";
import { checkTarget, writeTarget } from "./target.ts";
import { printable } from "./terminal.ts";
import { MEASURED_HEADS, MEASURED_NOTE, measuredCells, percent } from "./verify-cells.ts";
import { verifyPage } from "./verify-page.ts";

export interface VerifyCommand extends Omit<VerifyModelOptions, "text" | "memoryBytes"> {
  /** Path. */
  text?: string;
  /** Bytes. */
  memory?: number;
  json?: boolean;
  html?: string;
}

export async function printVerification(
  model: string,
  command: VerifyCommand,
  signal: AbortSignal,
): Promise<void> {
  const { kv, depths, positions, needles, layers, context, memory: memoryBytes } = command;
  const { device, adapter, kernels, threads, wideSimd, chunk, offline } = command;
  if (command.html !== undefined) await checkTarget(command.html);
  const text = command.text === undefined ? undefined : await readText(command.text, signal);
  const lines = progressLines();
  const found = verifyModel(model, {
    ...{
      kv,
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
  });
  const rows: VerifyRow[] = [];
  try {
    for await (const row of found) {
      lines.clear();
      rows.push(row);
      const line = command.json ? JSON.stringify(toJson(model, row, rows)) : toText(model, row, rows);
      if (line !== null) await write(`${line}\n`, signal);
    }
  } finally {
    lines.clear();
  }
  if (!command.json) await write(`${summary(rows).join("\n")}\n`, signal);
  if (command.html !== undefined) {
    const read = command.text ?? "Persuasion (Jane Austen), chapters 1 to 6";
    await writeTarget(command.html, verifyPage({ model, read, rows, date: today() }));
  }
}

/** One line at a time: download, weights, or what is being read. */
function progressLines() {
  const downloading = downloadLine();
  const loading = progress("loading", (done, total) => `${bytes(done)} of ${bytes(total)}`);
  let doing = "";
  let reading: Progress = { show() {}, clear() {} };
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
    onProgress: (now: { doing: string; done: number; total: number }) => {
      if (now.doing !== doing) {
        clear();
        doing = now.doing;
        const started = performance.now();
        reading = progress(doing, (done, total) => {
          const speed = perSecond(done, performance.now() - started);
          return `${grouped(done)} of ${grouped(total)} tokens${speed}`;
        });
      }
      reading.show(now.done, now.total);
    },
  };
}

const WIDTHS = [8, 9, 10, 11, 27, 9, 9, 9, 15];

/** null: a row that the summary shows. */
function toText(model: string, row: VerifyRow, rows: readonly VerifyRow[]): string | null {
  if (row.kind === "format") {
    if (rows.length > 1) return null;
    const parts = [printable(model), printable(row.device), `${grouped(row.context)} tokens of context`];
    return `${parts.join(" · ")}\n${MEASURED_NOTE}\n\n${columns(MEASURED_HEADS, WIDTHS)}`;
  }
  const isMeasured = row.kind === "depth" || row.kind === "answer" || row.kind === "layer";
  return isMeasured ? columns(measuredCells(row), WIDTHS) : null;
}

/** Needles, caches and verdicts, when all formats have been measured. */
function summary(rows: readonly VerifyRow[]): string[] {
  const needles = rows.filter((row): row is NeedleRow => row.kind === "needle");
  const verdicts = rows.filter((row): row is Verdict => row.kind === "verdict");
  const formats = rows.filter((row) => row.kind === "format");
  const widest = Math.max(...formats.map(({ kv }) => kv.length));
  return [
    ...needleText(needles),
    "",
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
