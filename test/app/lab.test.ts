/** `nibble lab` as a person types it: a study over a tiny model from outside and with a method from outside, and what it left. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { tinyModel } from "../engine/tiny-model.ts";
import { nibble, requireFreshBuild } from "./nibble.ts";
import { refused } from "./refused.ts";

let state = 1;
/** No part of it comes twice. */
const letters = Array.from({ length: 900 }, () => {
  state = (state * 48_271) % 2_147_483_647;
  return "abcde"[state % 5];
}).join("");
const folder = mkdtempSync(join(tmpdir(), "nibble-lab-app-"));
const file = (name: string) => join(folder, name);
const journal = () => readFileSync(file("lab/journal.jsonl"), "utf8");
const at = ["--folder", file("lab")];

beforeAll(() => {
  requireFreshBuild();
  writeFileSync(file("tiny.gguf"), tinyModel());
  writeFileSync(file("text.txt"), letters);
  const int4 = { method: "affine", bits: 4, group: 32 };
  const specs = [
    { keys: int4, values: int4 },
    { keys: { ...int4, rotate: true }, values: int4 },
  ];
  const rungs = [{ texts: 1, positions: 16, draws: 2 }];
  writeFileSync(
    file("study.json"),
    JSON.stringify({ specs, rungs, texts: "prose", models: [file("tiny.gguf")] }),
  );
  writeFileSync(
    file("mine.js"),
    `export default { name: "mine", needs: { keys: "token", values: "token" }, bits: [1], bitsOf: () => 1,
       apply: (vectors) => vectors.fill(0) };`,
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

it("runs a study, goes on where it was, compares, takes part and merges", async () => {
  const args = ["lab", "run", file("study.json"), ...at, "--text", file("text.txt"), "--device", "reference"];
  const first = await nibble([...args, "--experiments", "3"]);
  expect([first.stderr, first.code]).toEqual(["", 0]);
  expect(first.stdout).toMatch(/int4 g32 .*\n[\s\S]*3 experiments; 3 in .*Report: .*report\.html/);
  expect(readFileSync(file("lab/report.html"), "utf8")).toContain("tiny.gguf");

  const second = await nibble([...args, "--json"]);
  const rows = second.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  // Two specs, two draws, a text to search and one held out: eight, of which three were there.
  expect(rows.map(({ kind }) => kind)).toEqual([...new Array(5).fill("result"), "end"]);

  const contrast = await nibble([
    "lab",
    "contrast",
    "K int4 g32 rotated, V int4 g32",
    "int4 g32",
    "--json",
    ...at,
  ]);
  expect(JSON.parse(contrast.stdout).rows).toMatchObject([{ texts: 2, draws: 2, positions: 32 }]);

  const mine = [
    "lab",
    "propose",
    '{"keys":{"method":"mine@HASH","bits":1}}',
    "--on",
    "tiny",
    "--method",
    file("mine.js"),
  ];
  const digest = (await import("node:crypto"))
    .createHash("sha256")
    .update(readFileSync(file("mine.js")))
    .digest("hex");
  mine[2] = mine[2].replace("HASH", digest.slice(0, 12));
  const proposed = await nibble([...mine, ...at]);
  expect(proposed.stdout).toMatch(/4 experiments for the next/);

  writeFileSync(file("exported.jsonl"), journal());
  const merged = await nibble(["lab", "import", file("exported.jsonl"), "--folder", file("other"), "--json"]);
  const count = journal().trim().split("\n").length;
  expect(JSON.parse(merged.stdout)).toEqual({ entries: count, added: count });
  // What a broken pipe leaves: all whole lines are taken, and what is missing is said.
  writeFileSync(file("cut.jsonl"), journal().slice(0, -20));
  const cut = await nibble(["lab", "import", file("cut.jsonl"), "--folder", file("cut"), "--json"]);
  expect(cut.stderr).toContain("the last line is cut; it is left out");
  expect(JSON.parse(cut.stdout)).toEqual({ entries: count - 1, added: count - 1 });
  const again = await nibble(["lab", "import", file("exported.jsonl"), ...at, "--json"]);
  expect(JSON.parse(again.stdout)).toEqual({ entries: count, added: 0 });
});

it("refuses what it cannot do before any model is opened", async () => {
  const empty = await nibble(["lab", "best", "--folder", file("none")]);
  expect([empty.code, empty.stderr]).toEqual([
    2,
    expect.stringContaining("empty; allowed: one that `nibble lab run` has filled"),
  ]);
  const cases: [string[], number, string][] = [
    [["run", "--workers", "100000", ...at], 2, "A whole number from 1 to 64 is needed"],
    [
      ["run", "--db", "ftp://x", "--folder", file("ftp")],
      2,
      "--db is ftp://x; allowed: postgres://..., or a folder",
    ],
    [["run", "--method", file("study.json"), ...at], 1, "study.json: no module"],
    [["rebuild", "--folder", file("none")], 2, "without a journal"],
    [["retry", "--all", "zz", ...at], 2, "ids, or --all, and not both"],
    [["import", file("nothing.jsonl"), ...at], 1, "nothing.jsonl: no entry"],
    [["contrast", "rq4", "rq4", ...at], 2, "the second spec is the first one"],
    [["contrast", "rq4", "polar", "--by", "nix", ...at], 2, "--by is nix; allowed: model, family"],
    [["best", "--bits", "-1", ...at], 2, "--bits is -1"],
    [["propose", "rq4", "--on", "tiny", "--predict", "-1", "--over", "polar", ...at], 2, "--predict is -1"],
    [["propose", "rq4", "--on", "tiny", "--predict", "1", "--over", "rq4", ...at], 2, "--over is rq4"],
  ];
  writeFileSync(file("nothing.jsonl"), "");
  // Node's own mkdir never returns here.
  if (existsSync("/proc/self"))
    cases.push([
      ["run", "--folder", "/proc/nibble"],
      1,
      "the lab's folder /proc/nibble cannot be made: ENOENT",
    ]);
  for (const [args, code, told] of cases) {
    const ended = await refused(["lab", ...args]);
    expect([ended.code, ended.stderr], args.join(" ")).toEqual([code, expect.stringContaining(told)]);
    expect(ended.stderr.trim().split("\n"), args.join(" ")).toHaveLength(1);
  }
}, 180_000);
