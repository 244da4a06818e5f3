/** `nibble verify` as a shell runs it: the table, the JSON that scripts rely on, the page, wrong usage, and Ctrl-C. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { plotSvg } from "../../src/app/verify-plot.ts";
import { escapeText } from "../../src/plot/svg.ts";
import { tinyModel } from "../engine/tiny-model.ts";
import { nibble, requireFreshBuild, start } from "./nibble.ts";
import { refused } from "./refused.ts";

beforeAll(requireFreshBuild);

const cpu = ["--device", "cpu", "--threads", "1"];
const short = ["--depths", "0,30", "--positions", "16", "--needles", "0", ...cpu];
const lines = (text: string) => text.trimEnd().split("\n");
const folder = mkdtempSync(join(tmpdir(), "nibble-test-"));
const HOSTILE = `<img src=x onerror="alert('&')">`;

const METHOD = `export default {
  name: "powers", title: "the nearest power of two", needs: { keys: "token", values: "token" }, bits: [5], bitsOf: () => 5,
  apply(vectors) {
    for (let i = 0; i < vectors.length; i++)
      vectors[i] = vectors[i] === 0 ? 0 : Math.sign(vectors[i]) * 2 ** Math.round(Math.log2(Math.abs(vectors[i])));
  },
};`;

describe("nibble verify", () => {
  it("prints a JSON object a line", async () => {
    const { code, stdout, stderr } = await nibble(["verify", "needle", "--kv", "int4", "--json", ...short]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const rows = lines(stdout).map((line) => JSON.parse(line));
    expect(rows.map(({ kind, kv, depth }) => [kind, kv, depth])).toEqual(
      ["f16", "int4"].flatMap((kv) => [
        ["format", kv, undefined],
        ["depth", kv, 0],
        ["depth", kv, 30],
        ["depth", kv, null],
        ["verdict", kv, undefined],
      ]),
    );
    const all = {
      model: "needle",
      device: expect.stringContaining("1 thread"),
      date: expect.stringMatching(/^\d{4}-\d\d-\d\d$/),
      node: process.version,
    };
    const number = expect.any(Number);
    expect(rows[0]).toEqual({ ...all, kind: "format", kv: "f16", context: 46, cacheBytes: number });
    expect(rows[1]).toEqual({
      ...all,
      kind: "depth",
      kv: "f16",
      depth: 0,
      positions: 16,
      perplexity: number,
    });
    expect(rows[8]).toEqual({
      ...all,
      ...{ kind: "depth", kv: "int4", depth: null, positions: 32, perplexity: number },
      ...{
        meanKl: number,
        meanKlError: number,
        meanKlInterval: [number, number],
        medianKl: number,
        kl90: number,
        kl99: number,
        kl999: number,
      },
      ...{ maxKl: number, sameTop: number, sameTopError: number },
    });
    expect(rows[9]).toEqual({
      ...all,
      kind: "verdict",
      kv: "int4",
      grade: "not judged",
      text: expect.any(String),
    });
  });

  it("prints a table, verdicts, and a page in which nothing of a name is markup", async () => {
    const model = join(folder, `${HOSTILE.replaceAll("/", "")}.gguf`);
    // Two layers, each read alone in each format.
    writeFileSync(model, tinyModel());
    const text = join(folder, `${HOSTILE}.txt`);
    writeFileSync(text, "A text of some words, which goes on and on. ".repeat(20));
    const html = join(folder, "report.html");
    const args = [
      "verify",
      model,
      "--text",
      text,
      "--html",
      html,
      "--kv",
      "rq4,int4,rq4",
      "--layers",
      ...short,
    ];
    const { code, stdout, stderr } = await nibble(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^cache +depth +positions +perplexity +mean KL +median /m);
    expect(stdout).toMatch(/^rq4 +30 +16 +\S+ +[\d.]+ \([\d.]+ to [\d.]+\) .* %/m);
    expect(stdout).toMatch(/^int4 +not judged \(\d+\.\d KiB\): the model cannot predict this text/m);

    const page = readFileSync(html, "utf8");
    expect(page).toContain(escapeText(model));
    expect(page).toContain(escapeText(text));
    const tags = new Set([...page.matchAll(/<\/?([a-z0-9]+)/gi)].map((match) => match[1]));
    const known = "html meta title style h1 h2 p code table tr th td caption div figure figcaption";
    const drawing = "svg g line polyline circle text path";
    for (const tag of tags) expect(`${known} ${drawing}`.split(" ")).toContain(tag);
    expect(page).not.toMatch(/<[^>]*\son\w+=|javascript:|https?:/);
    // Bits, depths, shares, layers.
    expect(page.match(/<svg/g)?.length).toBe(4);
    expect(page.match(/<polyline/g)?.length).toBe(6);
    expect(page).toContain("int4, a layer alone");
    expect(stdout).toMatch(/^rq4 @0 +30 +16 /m);
  });

  it("reads a text from stdin", async () => {
    const text = "Words and more words. ".repeat(30);
    const args = ["verify", "needle", "--text", "-", "--kv", "int4", "--json", ...short];
    expect(lines((await nibble(args, text)).stdout).length).toBe(10);
  });

  it("measures a method of one's own, by layer, and writes a table", async () => {
    const [method, csv] = [join(folder, "powers.mjs"), join(folder, "rows.csv")];
    writeFileSync(method, METHOD);
    const args = ["--method", method, "--layers", "--csv", csv, "--depths", "0", "--positions", "16", ...cpu];
    const { code, stdout, stderr } = await nibble(["verify", "needle", ...args]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/powers@[0-9a-f]{12}/);
    const [heads, ...rows] = lines(readFileSync(csv, "utf8")).map((line) => line.trimEnd().split(","));
    const column = (name: string) => rows.map((row) => row[heads.indexOf(name)]);
    const layers = rows.length - 2;
    expect(column("kind")).toEqual(["depth", "depth", ...Array(layers).fill("layer")]);
    expect(column("layer")).toEqual(["", "", ...Array.from({ length: layers }, (_, i) => String(i))]);
    const kl = column("meanKl").slice(1).map(Number);
    expect(Math.min(...kl)).toBeGreaterThan(0);
    expect(new Set(column("positions"))).toEqual(new Set(["16"]));
  });

  it("stopped by Ctrl-C writes what it has, and leaves no file behind", async () => {
    const scratch = join(folder, "scratch");
    mkdirSync(scratch);
    const html = join(folder, "stopped.html");
    const args = ["verify", "needle", "--json", "--html", html, "--depths", "0,12000", ...cpu];
    const { child, ended } = start(args, "", { TMPDIR: scratch });
    let said = "";
    await new Promise<void>((resolve) => {
      child.stdout!.on("data", (data) => {
        said += data;
        if (said.includes('"depth":0')) resolve();
      });
      child.on("close", () => resolve());
    });
    child.kill("SIGINT");
    expect(await ended).toMatchObject({ code: 130, stderr: "" });
    expect(readFileSync(html, "utf8")).toContain("needle");
    expect(readdirSync(scratch)).toEqual([]);
  });
});

describe("wrong usage of nibble verify:", () => {
  const wrong: [what: string, args: string[], code: number, message: RegExp, stdin?: string][] = [
    ["an unknown format", ["--kv", "int4,q9"], 2, /KV cache format is "q9"; allowed: f16, int4, rq4/],
    ["f16 alone", ["--kv", "f16"], 2, /--kv is f16 alone; allowed: formats to compare with f16/],
    [
      "a format of no device",
      ["--kv", "f32", ...cpu],
      1,
      /KV format f32 on the wasm device is not supported/,
    ],
    ["a short text", ["--text", "-"], 2, /--text is \d+ tokens long; allowed: at least 257/, "Too short."],
    ["a missing text", ["--text", "no-such.txt"], 1, /no-such\.txt: no such file/],
    ["bytes for a text", ["--text", "models/needle-14m/needle-14m-Q8_0.gguf"], 1, /bytes that are not UTF-8/],
    ["a depth beyond the model", ["--depths", "32768"], 2, /--depths is 32768; allowed: integers 0 to 32512/],
    ["a depth of letters", ["--depths", "deep"], 2, /'deep' is invalid\. A number is needed/],
    ["no positions", ["--positions", "0"], 2, /--positions is 0; allowed: integers 1 to/],
    [
      "a page where no folder is",
      ["--html", "no/such/page.html"],
      1,
      /cannot write no\/such\/page\.html: ENOENT/,
    ],
    ["a page that is a folder", ["--html", "src"], 1, /cannot write src: is a folder/],
    [
      "formats beside a method",
      ["--method", "x.js", "--kv", "int4"],
      2,
      /--kv is int4; allowed: nothing together with/,
    ],
    ["a missing model", [], 1, /no-such\.gguf: no such file/],
  ];
  it.each(wrong)("%s", async (what, args, code, message, stdin) => {
    const model = what === "a missing model" ? "no-such.gguf" : "needle";
    const all = ["verify", model, ...args];
    // The first in a process of its own, and those that read stdin.
    const ended = await (stdin !== undefined || args.includes("-") || args === wrong[0][1]
      ? nibble(all, stdin)
      : refused(all));
    expect(ended.stderr).toMatch(message);
    expect(ended.stderr).toMatch(/^nibble: [^\n]+\n$/);
    expect(ended).toMatchObject({ code, stdout: "" });
  });
});

describe("a plot", () => {
  const plot = (values: (number | null)[], name = "rq4") =>
    plotSvg({ title: HOSTILE, places: values.map(() => HOSTILE), lines: [{ name, values }] });

  it("escapes every text", () => {
    const svg = plot([1, 2], HOSTILE)!;
    expect(svg).not.toContain("<img");
    expect(svg).toContain("&lt;img src=x onerror=&quot;alert(&#39;&amp;&#39;)&quot;&gt;");
  });

  it("leaves out what a logarithm cannot show, and is none without the rest", () => {
    expect(plot([])).toBe(null);
    expect(plot([0, null, -1, Number.NaN, Number.POSITIVE_INFINITY])).toBe(null);
    const svg = plot([0, 1e-300, null, 5e300])!;
    expect(svg.match(/<circle/g)?.length).toBe(2);
    expect(svg).not.toMatch(/NaN|Infinity/);
    expect(plot([1])).not.toMatch(/NaN|Infinity/);
  });
});
