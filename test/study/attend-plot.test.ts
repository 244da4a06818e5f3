/** The plot of `nibble bench attend`: every path and floor is there, inside its frame, whatever the rows hold. */
import { describe, expect, it } from "vitest";
import { attendPlot } from "../../src/study/attend/attend-plot.ts";
import type { AttendFinding, AttendOp, AttendRow } from "../../src/study/attend/bench-attend.ts";

const of = { adapter: 'a GPU <1> & "2"', date: "2026-11-23" };
const bandwidth: AttendFinding = { op: "readBandwidth", gbps: 2000, ...of };

function row(op: AttendOp, kv: string, tokens: number, us: number, more: Partial<AttendRow> = {}): AttendRow {
  const gbps = (tokens * 1280) / us / 1e3;
  return { op, shape: "64/8x128", kv, tokens, queries: 1, us, gbps, tflops: 1, error: 0.01, ...of, ...more };
}

const rows = [
  bandwidth,
  row("attendDecode", "int4", 131_072, 140),
  row("attendDecode", "int4", 1024, 11),
  row("attendDequantized", "int4", 1024, 30),
  row("attendDequantized", "int4", 131_072, 500),
  row("attendDecode", "f16", 1024, 12),
  row("attendDecode", "f16", 131_072, 250),
  row("attendPrompt", "int4", 16_384, 3000, { queries: 512 }),
  row("attendDecode", "int4", 1024, 7, { shape: "32/8x128" }),
];

const labels = (svg: string) =>
  [...svg.matchAll(/<text x="\d+" y="[\d.]+">([^<]*)</g)].map(([, text]) => text);
const numbers = (svg: string) =>
  [...svg.matchAll(/[ "MLVH](-?[\d.]+|NaN|Infinity)/g)].map(([, n]) => Number(n));

describe("the plot of attention", () => {
  it("has a line for each path, the floor of each format, and the labels at their ends", () => {
    const svg = attendPlot(rows);
    expect(labels(svg)).toEqual([
      "int4 dequantized 500",
      "int4 140",
      "int4 floor 83.9",
      "f16 250",
      "f16 floor 83.9",
    ]);
    expect(svg.match(/class="path"/g)).toHaveLength(5);
    expect(svg.match(/<circle/g)).toHaveLength(6);
    expect(svg).toContain("a GPU &lt;1&gt; &amp; &quot;2&quot;, 2026-11-23, medians; dashed");
    expect(svg).toContain(">128K</text>");
    expect(svg).not.toMatch(/NaN|Infinity|undefined|<script/);
  });

  it("draws points from left to right, whatever their order", () => {
    const [, path] = /class="a fused">\n<path [^>]*d="([^"]*)"/.exec(attendPlot(rows))!;
    const places = [...path.matchAll(/[ML]([\d.]+) ([\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)]);
    expect(places).toHaveLength(2);
    expect(places[0][0]).toBeLessThan(places[1][0]);
    expect(places[0][1]).toBeGreaterThan(places[1][1]);
  });

  it("shows another shape, or prompts, when asked", () => {
    expect(labels(attendPlot(rows, { shape: "32/8x128" }))).toEqual(["int4 7"]);
    const prompts = attendPlot(rows, { queries: 512 });
    expect(labels(prompts)).toEqual(["int4 3000"]);
    expect(prompts).toContain("64/8x128, 512 tokens");
  });

  it("says that there is nothing, and stays inside its frame with one row or without a floor", () => {
    expect(attendPlot([])).toContain("No measurements.");
    expect(attendPlot([bandwidth])).toContain("No measurements.");
    const skipped: AttendFinding = {
      ...{ op: "attendDecode", shape: "64/8x128", kv: "f16", tokens: 9, queries: 1, skipped: "too large" },
      ...of,
    };
    for (const few of [[rows[1]], [bandwidth, skipped, rows[1]], [rows[1], rows[2]]]) {
      const svg = attendPlot(few);
      expect(svg.match(/class="path"/g)!.length).toBeGreaterThan(0);
      expect(svg).not.toMatch(/NaN|Infinity|undefined/);
      for (const found of numbers(svg.slice(svg.indexOf("</style>")))) {
        expect(found).toBeGreaterThanOrEqual(0);
        expect(found).toBeLessThanOrEqual(131_072);
      }
    }
  });
});
