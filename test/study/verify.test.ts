/** A study of cache formats: what is planned, what is measured, against itself and against one token at a time. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { findModel } from "../../src/engine/find-model.ts";
import { loadCheckpoint } from "../../src/engine/load-checkpoint.ts";
import { quantizeModel } from "../../src/engine/quantize.ts";
import { Text } from "../../src/engine/text.ts";
import { AbortedError, ArgumentError, NibbleError, UnsupportedError } from "../../src/format/errors.ts";
import { openCheckpoint } from "../../src/format/open.ts";
import type { ChatTemplate } from "../../src/format/template.ts";
import type { Tokenizer } from "../../src/format/tokenizer.ts";
import { distribution, divergence, surprise } from "../../src/study/verify/divergence.ts";
import { LogitsFile } from "../../src/study/verify/logits-file.ts";
import { haystack, NEEDLE_DEPTHS } from "../../src/study/verify/needles.ts";
import { GRADES, verdict } from "../../src/study/verify/verdict.ts";
import { type LogitsStore, type VerifySource, verify } from "../../src/study/verify/verify.ts";
import { verifyModel } from "../../src/study/verify/verify-model.ts";
import type { DepthRow, NeedleRow, VerifyRow } from "../../src/study/verify/verify-rows.ts";
import { planStudy, type StudySubject } from "../../src/study/verify/verify-tests.ts";
import { tinyModel } from "../engine/tiny-model.ts";

const TEXT = readFileSync(new URL("../../models/texts/persuasion.txt", import.meta.url), "utf8");
const CPU = { device: "cpu", threads: 1 } as const;

let tokenizer: Tokenizer;
let template: ChatTemplate;
let subject: StudySubject;
beforeAll(async () => {
  const checkpoint = await openCheckpoint(await findModel("needle"));
  tokenizer = await checkpoint.tokenizer();
  template = (await checkpoint.chatTemplate())!;
  subject = {
    ...{ tokenizer, template, trainedContext: 32_768 },
    device: { name: "wasm", kvFormats: ["f16", "int4", "rq4"] },
  };
  await checkpoint.close();
});

function memory(): LogitsStore & { rows: Float32Array[] } {
  const rows: Float32Array[] = [];
  return { rows, add: async (logits) => void rows.push(logits), get: async (row) => rows[row] };
}

async function open(kv: string, context: number): Promise<VerifySource> {
  const checkpoint = await openCheckpoint(await findModel("needle"));
  const { scheduler, device, plan, allocation } = await loadCheckpoint(
    checkpoint,
    () => wasmDevice({ threads: 1 }),
    { kv, context, chunk: 64, outputs: 24 },
    async () => ({}),
  );
  const close = async () => {
    await allocation.close();
    await checkpoint.close();
  };
  const { cacheBytes } = plan;
  return { text: new Text(scheduler), tokenizer, device: device.description, cacheBytes, close };
}

async function all(rows: AsyncGenerator<VerifyRow>): Promise<VerifyRow[]> {
  const found: VerifyRow[] = [];
  for await (const row of rows) found.push(row);
  return found;
}

describe("a study", () => {
  it("measures at 0, 1K, 4K and on a GPU 16K, as far as the text, the model and `context` go", () => {
    const windows = (name: string, text: string, context?: number) =>
      planStudy({ ...subject, device: { name, kvFormats: null } }, text, { context, needles: 0 }).windows.map(
        ({ from }) => from,
      );
    expect(windows("gpu", TEXT)).toEqual([0, 1024, 4096, 16_384]);
    expect(windows("gpu", TEXT, 16_384)).toEqual([0, 1024, 4096]);
    expect(windows("wasm", TEXT)).toEqual([0, 1024, 4096]);
    expect(windows("gpu", TEXT.slice(0, 10_000))).toEqual([0, 1024]);
  });

  it("ends a window where the next begins, and holds what needles need", () => {
    const { windows, haystacks, context } = planStudy(subject, TEXT, {
      depths: [600, 0, 20],
      positions: 64,
      needles: 3,
    });
    expect(windows).toEqual([
      { from: 0, to: 20 },
      { from: 20, to: 84 },
      { from: 600, to: 664 },
    ]);
    expect(haystacks.map(({ tokens }) => tokens)).toEqual([600, 600, 600]);
    const longest = Math.max(
      ...haystacks.flatMap(({ needles }) => needles.map((needle) => needle.ids.length)),
    );
    expect(longest).toBeGreaterThan(560);
    expect(longest).toBeLessThan(640);
    expect(context).toBe(Math.max(664, longest + 40));
  });

  const wrong: [what: string, tests: object, message: RegExp, text?: string][] = [
    ["no depths", { depths: [] }, /depths is empty/],
    ["a depth beyond the model", { depths: [32_700] }, /depths is 32700; allowed: integers 0 to 32512/],
    ["half a depth", { depths: [0.5] }, /depths is 0\.5/],
    ["no positions", { positions: 0 }, /positions is 0; allowed: integers 1 to 32768/],
    ["more positions than context", { positions: 40_000 }, /positions is 40000/],
    ["a fraction of a needle", { needles: 0.5 }, /needles is 0\.5/],
    ["a context beyond the model", { context: 40_000 }, /context is 40000; allowed: integers 1 to 32768/],
    ["an unknown format", { kv: ["int3"] }, /KV cache format is "int3"; allowed: f16, int4, rq4/],
    ["f16 alone", { kv: ["f16"] }, /kv is f16 alone/],
    ["a short text", {}, /text is \d+ tokens long; allowed: at least 257 for 256 positions from 0/, "Short."],
    ["an empty text", { positions: 1 }, /text is \d tokens long/, ""],
    [
      "a text too short for a depth",
      { depths: [9000], positions: 10 },
      /text is \d+ tokens long; allowed: at least 9011 /,
      TEXT.slice(0, 20_000),
    ],
  ];
  it.each(wrong)("refuses %s", (_, tests, message, text = TEXT) => {
    const plan = () => planStudy(subject, text, tests);
    expect(plan).toThrow(ArgumentError);
    expect(plan).toThrow(message);
  });
});

it("a study takes the formats that the device has, and refuses others", () => {
  const on = (kvFormats: string[], kv?: string[]) =>
    planStudy({ ...subject, device: { name: "wasm", kvFormats } }, TEXT, { kv, needles: 0 }).formats;
  expect(on(["f16", "int4", "rq4"])).toEqual(["int4", "rq4"]);
  expect(on(["f16", "int4"])).toEqual(["int4"]);
  expect(() => on(["f16", "int4"], ["int4", "rq4"])).toThrow(UnsupportedError);
});

describe("a haystack", () => {
  it("has a fact of its own at each depth, and questions that share the document", () => {
    const stack = haystack(tokenizer, template, TEXT, 2048, 1);
    expect(stack.needles.map(({ depth }) => depth)).toEqual(NEEDLE_DEPTHS);
    expect(new Set(stack.needles.map(({ value }) => value)).size).toBe(5);
    const document = tokenizer.decode([...stack.needles[0].ids]);
    for (const [i, { value, depth }] of stack.needles.entries()) {
      const at = document.indexOf(`is ${value}.`) / document.length;
      expect(at, `needle ${i}`).toBeGreaterThan(depth - 0.1);
      expect(at, `needle ${i}`).toBeLessThan(depth + 0.1);
    }
    const [first, ...others] = stack.needles.map(({ ids }) => ids);
    for (const other of others)
      expect(first.findIndex((id, i) => other[i] !== id)).toBeGreaterThan(first.length - 30);
    const texts = (number: number) =>
      haystack(tokenizer, template, TEXT, 2048, number).needles.map(({ value }) => value);
    expect(texts(0)).not.toEqual(texts(1));
  });

  it("lets a model without a template go on with the fact's sentence", () => {
    const { needles } = haystack(tokenizer, null, TEXT, 600);
    expect(tokenizer.decode([...needles[0].ids])).toMatch(/\nThe access code of Clara Whitfield is$/);
  });

  it("cuts a text without line ends, and one of one endless word", () => {
    const spaces = " ".repeat(300_000);
    for (const text of [
      TEXT.replaceAll("\n", " "),
      "x".repeat(50_000),
      `\n\n \r\n${"word ".repeat(9000)}`,
      `${spaces}${"word\t\r".repeat(9000)}`,
    ]) {
      const { needles } = haystack(tokenizer, template, text, 800);
      for (const { ids } of needles) expect(ids.length).toBeLessThan(900);
    }
  });
});

describe("verify", () => {
  const study = () => planStudy(subject, TEXT, { depths: [0, 70], positions: 40, needles: 0 });

  it("measures f16 against itself as nothing, whatever its name, and one model is open at a time", async () => {
    const planned = { ...study(), formats: ["int4"] };
    let held = 0;
    const rows = await all(
      verify(
        planned,
        async () => {
          expect(held++).toBe(0);
          const source = await open("f16", planned.context);
          const close = () => source.close().then(() => void held--);
          return { ...source, close };
        },
        memory(),
      ),
    );
    expect(rows.map(({ kind, kv }) => `${kv} ${kind}`)).toEqual(
      ["f16", "int4"].flatMap((kv) => [`${kv} format`, ...Array(3).fill(`${kv} depth`), `${kv} verdict`]),
    );
    const [at0, at70, whole] = rows.filter(
      (row): row is DepthRow => row.kind === "depth" && row.kv === "int4",
    );
    expect([at0, at70, whole].map(({ depth, positions }) => [depth, positions])).toEqual([
      [0, 40],
      [70, 40],
      [null, 80],
    ]);
    expect(whole.divergence).toMatchObject({ meanKl: 0, maxKl: 0, sameTop: 1 });
  });

  it("measures a layer alone in a format, and leaves out one that is f16 there", async () => {
    const layers = [0, 1].map((layer) => ({
      layer,
      formatOf: (kv: string) => (layer === 0 ? kv : "f16"),
    }));
    const planned = { ...study(), formats: ["rq4"], layers };
    const opened: string[] = [];
    const source = (kv: string) => {
      opened.push(kv);
      return open(kv, planned.context);
    };
    const rows = await all(verify(planned, source, memory()));
    expect(opened).toEqual(["f16", "rq4", "f16+rq4@0"]);
    const alone = rows.filter((row) => row.kind === "layer");
    expect(alone.map(({ kv, layer, depth, positions }) => [kv, layer, depth, positions])).toEqual([
      ["rq4", 0, 0, 40],
      ["rq4", 0, 70, 40],
      ["rq4", 0, null, 80],
    ]);
    const whole = rows.find((row) => row.kind === "depth" && row.kv === "rq4" && row.depth === null);
    const kl = alone[2].divergence!.meanKl;
    expect(kl).toBeGreaterThan(0);
    expect(kl).toBeLessThan((whole as DepthRow).divergence!.meanKl);
  });

  it("finds what one token at a time finds", async () => {
    const planned = { ...study(), formats: ["rq4"] };
    const rows = await all(verify(planned, (kv) => open(kv, planned.context), memory()));
    const row = rows.find(
      (one): one is DepthRow => one.kind === "depth" && one.kv === "rq4" && one.depth === 70,
    )!;
    const sources = await Promise.all(["f16", "rq4"].map((kv) => open(kv, planned.context)));
    let [kl, unexpected] = [0, 0];
    for (const [i, id] of planned.ids.slice(0, 110).entries()) {
      const [p, q] = await Promise.all(
        sources.map(async ({ text }) => distribution(await text.append(id), 0)),
      );
      if (i < 70) continue;
      kl += divergence(p, q) / 40;
      unexpected += surprise(q, planned.ids[i + 1]) / 40;
    }
    for (const source of sources) await source.close();
    // A chunk's tokens go through other kernels than one token does; both round.
    expect(row.divergence!.meanKl / kl).toBeCloseTo(1, 1);
    expect(Math.log(row.perplexity) / unexpected).toBeCloseTo(1, 1);
  });
});

describe("verifyModel", () => {
  const tests = { ...CPU, depths: [0, 520], positions: 64, needles: 1 };
  afterEach(() => vi.unstubAllEnvs());

  it("asks for needles, compares answers, and leaves no file", async () => {
    const folder = mkdtempSync(join(tmpdir(), "nibble-test-"));
    vi.stubEnv("TMPDIR", folder);
    const shares: number[] = [];
    const onProgress = ({ share }: { share: number }) => void shares.push(share);
    const rows = await all(verifyModel("needle", { ...tests, kv: ["int4"], onProgress }));
    expect(readdirSync(folder)).toEqual([]);
    expect([...shares].sort((a, b) => a - b)).toEqual(shares);
    expect(shares[0]).toBeLessThan(0.2);
    expect(shares.at(-1)).toBeGreaterThan(0.9);
    const needles = rows.filter((row): row is NeedleRow => row.kind === "needle");
    expect(needles.map(({ kv, tokens, depth, asked }) => [kv, tokens, depth, asked])).toEqual(
      ["f16", "int4"].flatMap((kv) => NEEDLE_DEPTHS.map((depth) => [kv, 520, depth, 1])),
    );
    expect(needles.filter(({ kv, right }) => kv === "f16" && right === 1).length).toBeGreaterThanOrEqual(3);
    const [own, other] = rows.filter((row) => row.kind === "answer");
    expect(own).toMatchObject({ kv: "f16", tokens: 520, divergence: null });
    // Its own choices are what it expects.
    expect(own.perplexity).toBeLessThan(2);
    expect(other).toMatchObject({ kv: "int4", positions: own.positions });
    expect(other.divergence!.meanKl).toBeLessThan(0.5);
    expect(rows.at(-1)).toMatchObject({ kind: "verdict", kv: "int4" });
  });

  it("stops at once with what it has, closed and without a file", async () => {
    const folder = mkdtempSync(join(tmpdir(), "nibble-test-"));
    vi.stubEnv("TMPDIR", folder);
    const stop = new AbortController();
    const onProgress = ({ doing }: { doing: string }) => {
      if (doing.includes("measuring from 520")) stop.abort();
    };
    const rows: VerifyRow[] = [];
    const reading = async () => {
      for await (const row of verifyModel("needle", { ...tests, onProgress, signal: stop.signal }))
        rows.push(row);
    };
    await expect(reading()).rejects.toThrow(AbortedError);
    // The page that was measured of the window is not lost.
    expect(rows.at(-1)).toMatchObject({ kind: "depth", kv: "f16", depth: 520, positions: 32 });
    expect(readdirSync(folder)).toEqual([]);
    await expect(all(verifyModel("needle", { ...tests, signal: stop.signal }))).rejects.toThrow(AbortedError);
  });
});

describe("a file of logits", () => {
  it("gives back rows in any order and is gone when closed", async () => {
    const store = new LogitsFile();
    const row = (n: number) => Float32Array.from({ length: 300 }, (_, i) => i * n + 0.5);
    for (let n = 0; n < 5; n++) await store.add(row(n));
    for (const n of [4, 0, 2]) expect(await store.get(n)).toEqual(row(n));
    await expect(store.get(5)).rejects.toThrow(/row 5 of 5/);
    await store.close();
    await store.close();
  });

  it("names the folder and the way out when it cannot be written", async () => {
    vi.stubEnv("TMPDIR", "/no/such/folder");
    const store = new LogitsFile();
    const error = await store.add(new Float32Array(4)).catch((found) => found);
    vi.unstubAllEnvs();
    expect(error).toBeInstanceOf(NibbleError);
    expect(error).toMatchObject({ code: "io" });
    expect(error.message).toMatch(/\/no\/such\/folder .*Set TMPDIR/);
    await store.close();
    expect(existsSync("/no/such/folder")).toBe(false);
  });
});

describe("a verdict", () => {
  const measured = (kv: string, kind: "depth" | "answer", meanKl: number | null, perplexity = 20) => ({
    ...{ kind, kv, positions: 100, perplexity, depth: 1024, tokens: 1024 },
    divergence:
      meanKl === null
        ? null
        : {
            ...{ meanKl, meanKlError: 0, medianKl: 0, kl90: 0, kl99: 0, kl999: 0, maxKl: 1 },
            ...{ sameTop: 0.9, sameTopError: 0.01 },
          },
  });
  const needle = (kv: string, right: number, asked = 20): NeedleRow => ({
    ...{ kind: "needle", kv, tokens: 1024, depth: 0.5, right, asked },
  });
  const grade = (rows: object[], overF16: object[]) =>
    verdict("int4", rows as VerifyRow[], overF16 as VerifyRow[], 4096);
  const f16 = [measured("f16", "depth", null)];

  it.each([
    [0.001, "as f16"],
    [0.02, "good"],
    [0.07, "fair"],
    [0.5, "poor"],
  ])("of a KL of %f is %s", (kl, wanted) => {
    expect(grade([measured("int4", "depth", 0), measured("int4", "depth", kl)], f16).grade).toBe(wanted);
    expect(GRADES.map(([name]) => name)).toContain(wanted);
  });

  it.each([
    [20, "as f16"],
    [18, "as f16"],
    [15, "fair"],
    [9, "poor"],
  ])("with %i needles of f16's 20 is %s at best", (right, wanted) => {
    const rows = [measured("int4", "depth", 0.001), needle("int4", right)];
    expect(grade(rows, [...f16, needle("f16", 20)])).toMatchObject({
      grade: wanted,
      text: expect.stringContaining(`${right} of 20 needles, f16 20`),
    });
  });

  it("leaves needles out where the model cannot find them over f16", () => {
    const rows = [measured("int4", "depth", 0.001), needle("int4", 0)];
    expect(grade(rows, [...f16, needle("f16", 9)])).toMatchObject({
      grade: "as f16",
      text: expect.stringContaining("needles say nothing: over f16 it finds 9 of 20"),
    });
  });

  it("goes by the answers where the model cannot predict the text, or does not judge", () => {
    const unread = [measured("f16", "depth", null, 5000)];
    const rows = [measured("int4", "depth", 2), measured("int4", "answer", 0.02)];
    expect(grade(rows, unread)).toMatchObject({
      grade: "good",
      text: expect.stringMatching(
        /judged by its answers, for .*cannot predict this text.*in answers after 1024 tokens/,
      ),
    });
    expect(grade([measured("int4", "depth", 2)], unread).grade).toBe("not judged");
  });
});

describe("one file against another", () => {
  const folder = mkdtempSync(join(tmpdir(), "nibble-against-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const tests = { ...CPU, depths: [0], positions: 16, needles: 0 };
  const meanKl = async (against: string) => {
    const rows: VerifyRow[] = [];
    for await (const row of verifyModel("needle", { ...tests, against })) rows.push(row);
    const measured = rows.findLast((row): row is DepthRow => row.kind === "depth");
    return { kl: measured?.divergence?.meanKl, verdict: rows.at(-1) };
  };

  it("tells what quantized weights cost, and nothing where they are the same", async () => {
    const path = join(folder, "needle-q4_0.gguf");
    await quantizeModel("needle", path, { type: "q4_0" });
    const found = await meanKl(path);
    expect(found.kl).toBeGreaterThan(1e-4);
    expect(found.verdict).toMatchObject({ kind: "verdict", kv: "needle-q4_0.gguf (f16 cache)" });
    expect((await meanKl("needle")).kl).toBe(0);
  });

  it("refuses another vocabulary, and formats beside it", async () => {
    const path = join(folder, "tiny.gguf");
    writeFileSync(path, tinyModel());
    await expect(meanKl(path)).rejects.toThrow(
      /against is tiny.gguf .* another vocabulary .*allowed: a file with the same/,
    );
    const both = verifyModel("needle", { ...tests, against: "needle", kv: ["int4"] });
    await expect(both.next()).rejects.toThrow(/kv is int4; allowed: nothing together with against/);
  });
});
