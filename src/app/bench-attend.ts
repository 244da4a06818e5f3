/** `nibble bench attend`: the library's measurements of attention as tables, JSON lines and a plot. */
import {
  type AttendFinding,
  type AttendRow,
  attendPlot,
  type BandwidthRow,
  type BenchAttendOptions,
  benchAttend,
  floorUs,
  type LoadOptions,
  openAttendTimer,
} from "../index.ts";
import { grouped, rounded } from "../plot/numbers.ts";
import { write } from "./interrupt.ts";
import { type Progress, progress } from "./progress.ts";
import { checkTarget, writeTarget } from "./target.ts";

export interface BenchAttendCommand
  extends Pick<LoadOptions, "device" | "adapter" | "kernels" | "threads" | "wideSimd"> {
  shape?: string[];
  kv?: string[];
  tokens?: number[];
  prompt?: number[];
  queries?: number;
  dequantized: boolean;
  json?: boolean;
  svg?: string;
}

export async function printAttendBench(command: BenchAttendCommand, signal: AbortSignal): Promise<void> {
  const { shape, kv, tokens, prompt, queries, dequantized, json, svg } = command;
  if (svg !== undefined) await checkTarget(svg);
  const timer = await openAttendTimer(command);
  const found: AttendFinding[] = [];
  try {
    const rows = shown(timer, {
      shapes: shape,
      kv,
      tokens: present(tokens),
      prompt: present(prompt),
      queries,
      dequantized,
      signal,
    });
    let block: AttendFinding[] = [];
    const flush = async () => {
      const bandwidth = found.find(isBandwidth);
      if (!json && bandwidth && block.length > 0)
        await write(`\n${tableOf(block, bandwidth).join("\n")}\n`, signal);
      block = [];
    };
    for await (const row of rows) {
      found.push(row);
      if (json) await write(`${JSON.stringify(row)}\n`, signal);
      else if (isBandwidth(row))
        await write(`${row.adapter}; a kernel that only reads makes ${rounded(row.gbps)} GB/s\n`, signal);
      else {
        if (block.length > 0 && titleOf(block[0]) !== titleOf(row)) await flush();
        block.push(row);
      }
    }
    await flush();
    if (svg !== undefined) await writeTarget(svg, attendPlot(found));
  } finally {
    await timer.close();
  }
}

/** 0 means none in llama-bench. */
function present(lengths: readonly number[] | undefined): number[] | undefined {
  return lengths?.filter((length) => length !== 0);
}

function isBandwidth(row: AttendFinding): row is BandwidthRow {
  return row.op === "readBandwidth";
}

async function* shown(
  timer: Parameters<typeof benchAttend>[0],
  options: BenchAttendOptions,
): AsyncGenerator<AttendFinding> {
  let doing = "";
  let line: Progress = { show() {}, clear() {} };
  try {
    for await (const row of benchAttend(timer, {
      ...options,
      onProgress(now) {
        if (now.doing !== doing) line.clear();
        doing = now.doing;
        line = progress("attend", () => doing);
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

function titleOf(row: AttendFinding): string {
  if (row.op === "readBandwidth") return "";
  const what = row.queries === 1 ? "one token" : `${row.queries} tokens of a prompt`;
  return `${row.shape}, ${what}`;
}

/** One shape: contexts across, paths down, each with how much faster it is than the first baseline there is. */
function tableOf(block: readonly AttendFinding[], bandwidth: BandwidthRow): string[] {
  const rows = block.filter((row) => row.op !== "readBandwidth");
  const contexts = [...new Set(rows.map(({ tokens }) => tokens))];
  const pathOf = ({ op, kv }: { op: string; kv: string }) =>
    op === "attendDequantized" ? `${kv} dequantized` : kv;
  const paths = [...new Set(rows.map(pathOf))];
  const at = (path: string, tokens: number) =>
    rows.find((row) => pathOf(row) === path && row.tokens === tokens);
  const line = (name: string, cell: (tokens: number) => string) =>
    name.padEnd(PATH_WIDTH) + contexts.map((tokens) => cell(tokens).padStart(CELL_WIDTH)).join("");
  const timed = (path: string, tokens: number): AttendRow | null => {
    const row = at(path, tokens);
    return row && "us" in row ? row : null;
  };
  const baseline = paths.find((path) => path.endsWith("dequantized"));
  const cell = (path: string) => (tokens: number) => {
    const row = timed(path, tokens);
    if (!row) return at(path, tokens) ? "does not fit" : "";
    const slow = baseline === undefined || path === baseline ? null : timed(baseline, tokens);
    return rounded(row.us) + (slow ? ` ${`${(slow.us / row.us).toFixed(1)}x`.padStart(6)}` : " ".repeat(7));
  };
  const isPrompt = rows.some(({ queries }) => queries > 1);
  const floors = paths.filter((path) => !path.endsWith("dequantized"));
  const reasons = new Set(
    rows.flatMap((row) => ("skipped" in row ? [`${pathOf(row)}: ${row.skipped}`] : [])),
  );
  const unit = baseline ? `us a layer; x: times as fast as ${baseline}` : "us a layer";
  return [
    `${titleOf(rows[0])} (${unit})`,
    line("cached tokens", grouped),
    ...paths.map((path) => line(path, cell(path))),
    ...floors.map((path) =>
      isPrompt
        ? line(`${path}, TFLOP/s`, (tokens) => figure(timed(path, tokens)?.tflops))
        : line(`${path}, memory floor`, (tokens) => {
            const row = timed(path, tokens);
            return figure(row ? floorUs(row, bandwidth) : undefined);
          }),
    ),
    ...[...reasons].map((reason) => `does not fit: ${reason}`),
  ];
}

const PATH_WIDTH = 20;
const CELL_WIDTH = 16;

function figure(value: number | undefined): string {
  return value === undefined ? "" : rounded(value) + " ".repeat(7);
}
