/**
 * nibble-llm/browser from end to end: headless Chromium loads the bundle and needle-14m by HTTP ranges, generates on WebGPU,
 * and has to find the tokens that the CPU device finds, as Node's WebGPU has to (app/gpu.test.ts). A fact in a document keeps
 * every choice clear, so that devices of different arithmetic agree.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bundleForBrowsers, MOST_GZIP_BYTES } from "../../scripts/browser.js";
import { UNSUPPORTED } from "../../scripts/chromium-parts.js";
import type * as Nibble from "../../src/browser.ts";
import { nibble as commandLine, requireFreshBuild } from "../app/nibble.ts";
import { answer, type Handler, type Server, serve } from "../format/http-server.ts";
import { launchChromium } from "./chromium.ts";

declare global {
  var nibble: typeof Nibble;
}

const root = fileURLToPath(new URL("../..", import.meta.url));
const needle = readFileSync(join(root, "models/needle-14m/needle-14m-Q8_0.gguf"));

/** 31 tokens: one more tile of 32 would take a GPU in software five seconds. */
const CONVERSATION = [
  { role: "system", content: "Ann Harlow's favorite color is red." },
  { role: "user", content: "What is the favorite color of Ann Harlow?" },
];
const ANSWER = "The favorite color of Ann Harlow is red.";
const OPTIONS = { context: 128, kv: "int4" };
/** Some 20 s of work on a quiet machine of two cores, most of it compiling shaders; then it fails, and does not hang. */
const PATIENCE_MS = 180_000;
const PAGE = '<!doctype html><script type="module">globalThis.nibble = await import("/nibble.js");</script>';

const name = `nibble in Chromium${UNSUPPORTED ? ` (${UNSUPPORTED})` : ""}`;
describe.skipIf(UNSUPPORTED !== null)(name, () => {
  const folder = mkdtempSync(join(tmpdir(), "nibble-browser-"));
  let server: Server;
  let browser: Browser;
  let page: Page;
  const messages: string[] = [];
  let gzipBytes = 0;

  beforeAll(async () => {
    requireFreshBuild();
    const [chromium, built] = await Promise.all([launchChromium(), bundleForBrowsers(root, folder)]);
    browser = chromium;
    gzipBytes = built.gzipBytes;
    server = await serve(site(readFileSync(join(folder, "nibble.js"))));
    page = await browser.newPage();
    page.on("console", (message) => messages.push(message.text()));
    page.on("pageerror", (error) => messages.push(String(error)));
    await page.goto(server.url);
    await page.waitForFunction(() => globalThis.nibble, undefined, { timeout: 10_000 });
  }, PATIENCE_MS);

  afterAll(async () => {
    await browser?.close();
    await server?.close();
    rmSync(folder, { recursive: true, force: true });
  }, PATIENCE_MS);

  it("is a small file", () => expect(gzipBytes).toBeLessThan(MOST_GZIP_BYTES));

  it(
    "loads needle by ranges and answers as the CPU does",
    async () => {
      const found = await page.evaluate(
        async ({ conversation, options }) => {
          const progress: number[] = [];
          const onProgress = ({ bytes, totalBytes }: Nibble.LoadProgress) =>
            progress.push(bytes / totalBytes);
          const model = await nibble.load("needle.gguf", { ...options, onProgress });
          try {
            const pieces: string[] = [];
            const generation = model.generate(conversation, { maxTokens: 32 });
            for await (const { text } of generation) pieces.push(text);
            const { ids, text } = await generation.result();
            return { device: model.device, ids, text, pieces, progress };
          } finally {
            await model.close();
          }
        },
        { conversation: CONVERSATION, options: OPTIONS },
      );
      expect(found.device).toMatch(/swiftshader/i);
      expect(found.text).toBe(ANSWER);
      expect(found.pieces.join("")).toBe(ANSWER);
      expect(found.progress.at(-1)).toBe(1);
      expect(await idsInNode()).toEqual(found.ids);
      const asked = server.requests.filter((line) => line.includes("needle.gguf"));
      expect(asked.length).toBeLessThan(25);
      for (const line of asked) expect(line).toMatch(/^GET \/needle\.gguf bytes=\d+-\d+$/);
      expect(messages).toEqual([]);
    },
    PATIENCE_MS,
  );

  it("reads a File that was chosen", async () => {
    const found = await page.evaluate(async () => {
      const file = new File([await (await fetch("needle.gguf")).blob()], "needle.gguf");
      const source = nibble.blobSource(file);
      const bytes = new Uint8Array(4);
      await source.read(file.size - 4, bytes);
      const cut = nibble.load(new File([file.slice(0, 1000)], "cut.gguf"));
      return { size: source.size, bytes: [...bytes], cut: await cut.catch(String) };
    });
    expect(found).toMatchObject({ size: needle.length, bytes: [...needle.subarray(-4)] });
    expect(found.cut).toMatch(/^FormatError: cut\.gguf/);
  });

  it("reads from another origin that allows it, even if Content-Range is hidden", async () => {
    const headers = { "access-control-allow-origin": "*" };
    const other = await serve((request, response) => answer(request, response, needle, headers));
    try {
      const size = await page.evaluate(async (url) => {
        const source = await nibble.httpSource(url);
        await source.close();
        return source.size;
      }, `${other.url}needle.gguf`);
      expect(size).toBe(needle.length);
    } finally {
      await other.close();
    }
  });

  it("says what another origin may lack", async () => {
    const message = await page.evaluate(
      (url) => nibble.httpSource(url, { attempts: 2, backoffMs: 1 }).catch((error: Error) => String(error)),
      server.url.replace("127.0.0.1", "localhost"),
    );
    expect(message).toMatch(
      /^NibbleError: http.*2 times in a row. Does the server allow pages of this origin \(CORS\)\?/,
    );
  });

  it.each([
    ["a missing file", "none.gguf", "io", /none\.gguf: no such file \(404\)/],
    ["a server without ranges", "whole.gguf", "io", /ignores Range/],
    ["no model", "nibble.js", "format", /nibble\.js/],
  ])("refuses %s", async (_, url, code, message) => {
    const error = await failure(url);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it("says what to do where there is no WebGPU", async () => {
    const bare = await browser.newPage();
    try {
      await bare.addInitScript("Object.defineProperty(navigator, 'gpu', { value: undefined })");
      await bare.goto(server.url);
      await bare.waitForFunction(() => globalThis.nibble, undefined, { timeout: 10_000 });
      const error = await failure("needle.gguf", bare);
      expect(error).toMatchObject({
        code: "device",
        message: expect.stringMatching(/no WebGPU.*Use a current/),
      });
    } finally {
      await bare.close();
    }
  });

  it("stops loading when it is told to", async () => {
    const error = await page.evaluate(() => {
      const controller = new AbortController();
      setTimeout(() => controller.abort(), 50);
      return nibble.load("silent.gguf", { signal: controller.signal }).catch(String);
    });
    expect(error).toMatch(/^AbortedError: reading http.*silent\.gguf was stopped/);
  });

  /** By the command line, which loads much faster than its sources. */
  async function idsInNode(): Promise<readonly number[]> {
    const [system, user] = CONVERSATION.map(({ content }) => content);
    const { context, kv } = OPTIONS;
    const options = ["--device", "cpu", "--context", String(context), "--kv", kv, "-n", "32", "--json"];
    const { stdout } = await commandLine(["run", "needle", user, "--system", system, ...options]);
    return JSON.parse(stdout).ids;
  }

  function failure(url: string, where = page): Promise<{ code: string; message: string }> {
    return where.evaluate(
      ([url, options]) =>
        nibble.load(url, options).then(
          () => ({ code: "none", message: "it was loaded" }),
          ({ code, message }: Nibble.NibbleError) => ({ code, message }),
        ),
      [url, OPTIONS] as const,
    );
  }
});

function site(bundle: Uint8Array): Handler {
  return (request, response) => {
    if (request.url === "/") response.setHeader("content-type", "text/html").end(PAGE);
    else if (request.url === "/nibble.js") {
      response.setHeader("content-type", "text/javascript");
      answer(request, response, bundle);
    } else if (request.url === "/needle.gguf") answer(request, response, needle, { etag: '"1"' });
    else if (request.url === "/whole.gguf") response.end(needle);
    else if (request.url !== "/silent.gguf") response.writeHead(404).end();
  };
}
