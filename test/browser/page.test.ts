/**
 * The chat page in headless Chromium, as a static site on one origin: with a server's API beside it that may misbehave, and
 * with needle-14m on the browser's own WebGPU. One browser, one build; the console stays silent, so nothing breaks the
 * page's Content-Security-Policy.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { UNSUPPORTED } from "../../scripts/chromium-parts.js";
import { bundlePage, MOST_FIRST_BYTES, MOST_GZIP_BYTES } from "../../scripts/page.js";
import { bytes, grouped } from "../../src/plot/numbers.ts";
import type { PlanTable } from "../../src/study/plan/plan-table.ts";
import { docx, pdf, zip } from "../app/document-files.ts";
import { nibble, requireFreshBuild, serveNeedle } from "../app/nibble.ts";
import { answer, type Server, serve } from "../format/http-server.ts";
import { launchChromium, UNZEROED } from "./chromium.ts";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const root = fileURLToPath(new URL("../..", import.meta.url));
const PATIENCE_MS = 180_000;
/** With the question 31 tokens: one more tile of 32 would take a GPU in software five seconds. */
const FACT = "Ann Harlow's favorite color is red.";
const QUESTION = "What is the favorite color of Ann Harlow?";
const ANSWER = "The favorite color of Ann Harlow is red.";
/** The model that the planner begins with, and one of a fifth of its layers and as long a context. */
const [LARGE, SMALL] = ["llama-3.1-70b", "llama-3.2-1b"];

/** What the API's next answer does; `send` writes one event. */
type Script = (send: (event: object) => void, response: ServerResponse) => void | Promise<void>;
const says = (text: string) => ({ choices: [{ delta: { content: text } }] });
const ends = { choices: [{ delta: {}, finish_reason: "stop" }] };

const name = `the page in Chromium${UNSUPPORTED ? ` (${UNSUPPORTED})` : ""}`;
describe.skipIf(UNSUPPORTED !== null)(name, () => {
  const folder = mkdtempSync(join(tmpdir(), "nibble-page-"));
  let built: Awaited<ReturnType<typeof bundlePage>>;
  let server: Server;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let script: Script;
  /** Bodies of the questions that the API was asked. */
  let asked: { model: string; messages: { role: string; content: string }[] }[];
  let messages: string[];
  let hasApi: boolean;
  /** The API's models, and how far each is where the list tells it. */
  let offered: { id: string; state?: string }[];
  /** The machine does not answer. */
  let isDown: boolean;
  /** The page may have its service worker. */
  let isKeeping: boolean;

  beforeAll(async () => {
    requireFreshBuild();
    [browser, built] = await Promise.all([
      launchChromium(UNZEROED),
      bundlePage(root, folder, { site: true }),
    ]);
    server = await serve(site);
  }, PATIENCE_MS);

  afterAll(async () => {
    await browser?.close();
    await server?.close();
    rmSync(folder, { recursive: true, force: true });
  }, PATIENCE_MS);

  beforeEach(async () => {
    asked = [];
    messages = [];
    hasApi = true;
    offered = [{ id: "tiny" }];
    isDown = false;
    isKeeping = false;
    script = (send) => {
      send(says("Hello."));
      send(ends);
    };
    context = await browser.newContext();
    context.setDefaultTimeout(40_000);
    page = await context.newPage();
    page.on("console", (message) => messages.push(message.text()));
    page.on("pageerror", (error) => messages.push(String(error)));
  });

  afterEach(async () => {
    await context.close();
    expect(messages).toEqual([]);
  });

  it("has little script", () => {
    expect(built.gzipBytes).toBeLessThan(MOST_GZIP_BYTES);
    expect(built.gzipBytes).toBeGreaterThan(50_000);
    expect(built.firstBytes).toBeLessThan(MOST_FIRST_BYTES);
    expect(built.firstBytes).toBeGreaterThan(30_000);
  });

  it("chats with a server: streams, folds reasoning, counts, and keeps the conversation", async () => {
    let go = () => {};
    const isRead = new Promise<void>((done) => {
      go = done;
    });
    script = async (send) => {
      send({ choices: [{ delta: { role: "assistant", content: "" } }] });
      const prompt_progress = { total: 1000, cache: 0, processed: 400, time_ms: 1 };
      send({ choices: [{ delta: {} }], prompt_progress });
      await isRead;
      send({ choices: [{ delta: { reasoning_content: "They want it short." } }] });
      for (const word of ["Here ", "is **bold** ", "and\n\n```js\nlet a", " = 1;\n```\n"]) send(says(word));
      send(ends);
      send({
        choices: [],
        usage: {
          ...{ prompt_tokens: 1000, completion_tokens: 24, prompt_tokens_details: { cached_tokens: 900 } },
          completion_tokens_details: { accepted_prediction_tokens: 7, rejected_prediction_tokens: 2 },
        },
      });
    };
    await open();
    await ask("What?");
    const turn = page.locator(".turn");
    await page.getByText("Reading 400 of 1,000 tokens").waitFor();
    expect(await page.getByLabel("Reading the prompt").getAttribute("value")).toBe("400");
    go();
    await turn.locator("footer").waitFor();
    expect(await turn.locator("strong").innerText()).toBe("bold");
    expect(await turn.locator("pre").innerText()).toBe("let a = 1;");
    expect(await turn.locator(".thinking p").isVisible()).toBe(false);
    await turn.locator("summary").click();
    expect(await turn.locator(".thinking p").innerText()).toBe("They want it short.");
    expect(await turn.locator("footer .figures").innerText()).toMatch(
      /^24 tokens .*7 of 9 guessed right · 1,000 in the prompt, 900 reused/,
    );
    // 1,024 of 8,192 tokens at 1,280 and 4,096 bytes.
    expect(await gauge("cached")).toBe("1,024 of 8,192 tokens");
    expect(await gauge("weighs")).toBe("1.3 MiB of 10.0 MiB");
    expect(await gauge("in-f16")).toBe("4.0 MiB of 32.0 MiB");
    expect(asked[0]).toMatchObject({
      model: "tiny",
      stream: true,
      messages: [{ role: "user", content: "What?" }],
    });

    await page.reload();
    await page.locator(".lamp.on").waitFor();
    expect(await page.locator(".turn strong").innerText()).toBe("bold");
    await ask("And?");
    await page.locator(".turn:nth-child(2) footer").waitFor();
    expect(asked[1].messages.map(({ role }) => role)).toEqual(["user", "assistant", "user"]);
    // Reasoning is not sent back.
    expect(JSON.stringify(asked[1])).not.toContain("short");
  });

  it("tells a full context from an answer that was long enough", async () => {
    const cut = (tokens: number) => (send: (event: object) => void) => {
      send(says("Cut"));
      send({ choices: [{ delta: {}, finish_reason: "length" }] });
      send({ choices: [], usage: { prompt_tokens: 100, completion_tokens: tokens } });
    };
    await open();
    script = cut(8092);
    await ask("What?");
    await page.getByText("The context is full").waitFor();
    script = cut(20);
    await ask("And?");
    await page.getByText("reached its longest length").waitFor();
  });

  it("answers anew, takes the last question back, forgets and remembers", async () => {
    await open();
    await ask("One?");
    await page.getByRole("button", { name: "Regenerate" }).click();
    await expect.poll(() => asked.length).toBe(2);
    expect(asked[1].messages).toEqual(asked[0].messages);
    await page.getByRole("button", { name: "Edit" }).click();
    await turns(0);
    expect(await field().inputValue()).toBe("One?");
    const isFocused = () => field().evaluate((element) => element === document.activeElement);
    await expect.poll(isFocused).toBe(true);
    await field().press("Escape");
    await turns(1);
    await field().press("ArrowUp");
    await turns(0);
    await field().fill("Two?");
    await field().press("Enter");
    await page.locator(".answer footer").waitFor();
    expect(asked[2].messages).toEqual([{ role: "user", content: "Two?" }]);
    // What was there before is a branch.
    expect(await page.locator(".branch .figures").innerText()).toBe("3 of 3");
    await page.getByRole("button", { name: "Earlier version" }).click();
    await expect.poll(() => page.locator(".question").innerText()).toContain("One?");
    expect(await page.locator(".branch .figures").innerText()).toBe("2 of 3");
    await page.getByRole("button", { name: "Delete" }).click();
    await turns(0);
    await page.getByRole("button", { name: "Undo" }).click();
    await page.locator(".list .title").click();
    await turns(1);
    expect(await page.locator(".question").innerText()).toContain("One?");
  });

  it("keeps many conversations: list, search, names, files out and in", async () => {
    await open();
    await ask("About whales?");
    await page.locator(".answer footer").waitFor();
    await page.getByRole("button", { name: "New conversation" }).click();
    await turns(0);
    await ask("About ants?");
    await page.locator(".answer footer").waitFor();
    // A title longer than the list is wide is cut off, and nothing else with it.
    await page.getByRole("button", { name: "Rename" }).click();
    await page.getByLabel("Title").fill(`About ants? ${"And so on, ".repeat(9)}`);
    await page.getByLabel("Title").press("Enter");
    await page.locator(".list .title").getByText("And so on").waitFor();
    expect(
      await page.locator(".list").evaluate(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth),
    ).toBe(0);
    await page.getByRole("button", { name: "Rename" }).click();
    await page.getByLabel("Title").fill("About ants?");
    await page.getByLabel("Title").press("Enter");
    const titles = () => page.locator(".list .title").allInnerTexts();
    await expect.poll(titles).toEqual(["About ants?", "About whales?"]);
    await page.getByLabel("Search conversations").fill("WHALE");
    await expect.poll(titles).toEqual(["About whales?"]);
    await page.locator(".list .title").click();
    await page.locator(".question").getByText("About whales?").waitFor();
    await page.getByRole("button", { name: "Rename" }).click();
    await page.getByLabel("Title").fill("Sea");
    await page.getByLabel("Title").press("Enter");
    await page.getByLabel("Search conversations").fill("");
    await expect.poll(titles).toEqual(["About ants?", "Sea"]);
    const files: { name: string; mimeType: string; buffer: Buffer }[] = [];
    for (const button of ["Markdown", "Export all"]) {
      const waiting = page.waitForEvent("download");
      await page.getByRole("button", { name: button }).click();
      const download = await waiting;
      files.push({
        ...{ name: download.suggestedFilename(), mimeType: "" },
        buffer: readFileSync(await download.path()),
      });
    }
    expect(files.map(({ name }) => name)).toEqual(["Sea.md", "conversations.json"]);
    expect(files[0].buffer.toString()).toContain("About whales?\n\n## tiny <!-- nibble:answer -->\n\nHello.");
    await page.getByRole("button", { name: "Delete" }).click();
    await expect.poll(titles).toEqual(["About ants?"]);
    await page.getByLabel("Files of conversations").setInputFiles(files);
    await page.getByText("3 conversations were imported.").waitFor();
    await expect
      .poll(async () => (await titles()).sort())
      .toEqual(["About ants?", "About ants?", "Sea", "Sea"]);
    await page
      .getByLabel("Files of conversations")
      .setInputFiles({ ...files[0], buffer: Buffer.from("# Notes") });
    await page.getByText("Sea.md has no conversation that Nibble wrote").waitFor();
  });

  it("two tabs overwrite nothing of each other, and see what the other does", async () => {
    await open();
    await ask("First?");
    await page.locator(".answer footer").waitFor();
    const other = await secondTab();
    // Both go on at once.
    const release: (() => void)[] = [];
    script = async (send) => {
      await new Promise<void>((done) => release.push(done));
      send(says("On."));
      send(ends);
    };
    for (const [tab, question] of [
      [page, "Here?"],
      [other, "There?"],
    ] as const) {
      await tab.getByLabel("Message").fill(question);
      await tab.getByLabel("Message").press("Enter");
    }
    await expect.poll(() => release.length).toBe(2);
    for (const done of release) done();
    for (const tab of [page, other]) {
      await tab.getByText("On.").waitFor();
      // Both branches are in both.
      await tab.locator(".branch .figures").getByText(/of 2/).waitFor();
    }
    await page.locator(".list .title").click();
    await page.getByRole("button", { name: "Rename" }).click();
    await page.getByLabel("Title").fill("Ours");
    await page.getByLabel("Title").press("Enter");
    await other.locator(".list .title").getByText("Ours").waitFor();
    await page.getByRole("button", { name: "Delete" }).click();
    await expect.poll(() => other.locator(".turn").count()).toBe(0);
    await other.close();
  });

  it("keeps an answer that ended while it read what another tab had changed", async () => {
    await page.addInitScript(holdReads);
    await open();
    await ask("First?");
    await page.locator(".answer footer").waitFor();
    const other = await secondTab();
    let go = () => {};
    const isHeld = new Promise<void>((done) => {
      go = done;
    });
    script = async (send) => {
      await isHeld;
      send(says("On."));
      send(ends);
    };
    await page.getByLabel("Message").fill("Here?");
    await page.getByLabel("Message").press("Enter");
    await expect.poll(() => asked.length).toBe(2);
    await page.evaluate("reads.isHolding = true");
    await other.getByRole("button", { name: "Rename" }).click();
    await other.getByLabel("Title").fill("Ours");
    await other.getByLabel("Title").press("Enter");
    await expect.poll(() => page.evaluate("reads.held.length")).toBeGreaterThan(0);
    go();
    await page.locator(".turn:nth-child(2) footer").waitFor();
    await page.evaluate("reads.isHolding = false; for (const give of reads.held) give();");
    await page.locator(".list .title").getByText("Ours").waitFor();
    expect(await page.locator(".turn:nth-child(2) .prose").innerText()).toBe("On.");
    await other.close();
  });

  it("keeps to what is asked before the conversation from before was read", async () => {
    await page.addInitScript(holdReads);
    await open();
    await ask("Before?");
    await page.locator(".answer footer").waitFor();
    await page.addInitScript("reads.isHolding = true");
    await page.reload();
    await page.locator(".lamp.on").waitFor();
    await ask("Meanwhile?");
    await page.locator(".answer footer").waitFor();
    await page.evaluate("for (const give of reads.held) give();");
    await expect.poll(() => page.locator(".list .title").count()).toBe(2);
    expect(await page.locator(".question").innerText()).toContain("Meanwhile?");
  });

  it("draws code in colours, formulas, tables, and pictures only when asked to", async () => {
    let fetched = 0;
    await page.route("https://example.org/**", (route) => {
      fetched++;
      return route.fulfill({
        contentType: "image/svg+xml",
        body: "<svg xmlns='http://www.w3.org/2000/svg'/>",
      });
    });
    script = (send) => {
      send(
        says(
          "```js\nconst a = 'b';\n```\n\n$\\frac{1}{2}$ and $\\href{javascript:x}{y}$\n\n| a |\n|---|\n| b |\n\n",
        ),
      );
      send(says("![chart](https://example.org/a.svg)"));
      send(ends);
    };
    await open();
    await ask("What?");
    await page.locator(".hljs-keyword").getByText("const").waitFor();
    await page.locator("math mfrac").waitFor({ state: "attached" });
    expect(await page.locator(".prose").innerText()).toContain("$\\href{javascript:x}{y}$");
    expect(await page.locator(".prose td").innerText()).toBe("b");
    expect(await page.locator(".prose img").count()).toBe(0);
    await page.locator("button.chosen").click();
    expect(fetched).toBe(0);
    await page.getByLabel(/^Fetch pictures/).check();
    await page.getByRole("button", { name: "Close" }).click();
    await page.getByAltText("chart").waitFor({ state: "attached" });
    await page.getByAltText("chart").scrollIntoViewIfNeeded();
    await expect.poll(() => fetched).toBe(1);
  });

  it("counts what is typed, shows what the cache holds, keeps instructions and presets", async () => {
    script = (send) => {
      send(says("Yes."));
      send(ends);
      send({ choices: [], usage: { prompt_tokens: 1000, completion_tokens: 24 } });
    };
    await open();
    await field().fill("some words");
    await page.getByTestId("draft-tokens").getByText("10 tokens").waitFor();
    await page.locator("button.chosen").click();
    await page.getByLabel(/^Instructions/).fill("Be short.");
    await page.getByLabel("Keep them as a preset").fill("Short");
    await page.getByRole("button", { name: "Keep", exact: true }).click();
    await page.getByLabel(/^Instructions/).fill("Something else");
    await page.getByLabel(/^Preset/).selectOption("Short");
    await page.getByRole("button", { name: "Close" }).click();
    await ask("What?");
    await page.locator(".answer footer").waitFor();
    expect(asked[0].messages[0]).toEqual({ role: "system", content: "Be short." });
    await page.getByText("What it holds").click();
    await page
      .getByRole("img", { name: /Question 1: 1,000 tokens; Answer 1: 24 tokens; free: 7,168 tokens/ })
      .waitFor();
    expect(await page.getByTestId("full-int4").innerText()).toBe("10.0 MiB");
    expect(await page.getByTestId("now-f16").innerText()).toBe("4.0 MiB");
    await page.reload();
    await page.locator(".lamp.on").waitFor();
    await page.locator("button.chosen").click();
    expect(await page.getByLabel(/^Instructions/).inputValue()).toBe("Be short.");
    await page.getByLabel(/^Preset/).waitFor();
  });

  it("switches in its head between the server's models and those that the browser keeps", async () => {
    offered = [
      { id: "passed", state: "unloaded" },
      { id: "large", state: "unloaded" },
      { id: "small", state: "loaded" },
    ];
    await open();
    const list = page.getByLabel("Model that answers");
    await list.waitFor();
    const shown = () => list.evaluate((select: HTMLSelectElement) => select.selectedOptions[0].text);
    // One that is loaded answers at once.
    expect(await shown()).toBe("small (loaded)");
    expect(await list.locator("option").allInnerTexts()).toEqual(["passed", "large", "small (loaded)"]);
    // What arrow keys pass is not loaded.
    await list.evaluate((select: HTMLSelectElement) => {
      for (const value of ["server passed", "server small"]) {
        select.value = value;
        select.dispatchEvent(new Event("change"));
      }
    });
    await list.focus();
    await page.keyboard.press("ArrowUp");
    await expect.poll(shown).toBe("large (loading 25 %)");
    await page.getByText("large is loading").waitFor({ state: "attached" });
    expect(await findings()).toEqual([]);
    offered[1].state = "loaded";
    await expect.poll(shown).toBe("large (loaded)");
    await page.getByText("large is loaded").waitFor({ state: "attached" });
    await ask("What?");
    await page.locator(".answer footer").waitFor();
    // What is known of a model since it was loaded is asked for.
    expect(asked[0]).toMatchObject({ model: "large", return_progress: true });
    await page.setViewportSize({ width: 360, height: 640 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
    await page.setViewportSize({ width: 1280, height: 720 });

    await page.getByRole("button", { name: "large", exact: true }).click();
    await page.getByLabel("Keep the file in this browser").check();
    await page
      .getByLabel("Model files")
      .setInputFiles({ name: "cut.gguf", mimeType: "", buffer: Buffer.from("G") });
    await page.locator("dialog .panel .problem").waitFor();
    await page.getByRole("button", { name: "Close" }).click();
    await expect
      .poll(() => list.locator("option").allInnerTexts())
      .toEqual(["passed", "large (loaded)", "small (loaded)", "cut (this browser)", "choose"]);
    await list.selectOption("small (loaded)");
    await page.locator(".lamp.on").waitFor();
    await list.selectOption("cut (this browser)");
    await page.locator(".panel .problem").first().waitFor();
    await page.reload();
    await page.locator(".lamp.on").waitFor();
    await expect.poll(shown).toBe("small (loaded)");
  });

  it("knows when its server is gone and back; opens and is read without it", async () => {
    isKeeping = true;
    await open();
    await ask("What?");
    await page.locator(".answer footer").waitFor();
    await page.evaluate(() => navigator.serviceWorker.ready);
    const look = () => page.evaluate(() => dispatchEvent(new Event("online")));
    isDown = true;
    await look();
    await page.locator(".lamp.gone").waitFor();
    expect(await page.locator("header [role=status]").innerText()).toMatch(
      /^127\.0\.0\.1:\d+ does not answer$/,
    );
    await page.reload();
    await page.getByText("Hello.").waitFor();
    await page.locator(".panel").waitFor();
    isDown = false;
    await page.reload();
    await page.locator(".lamp.on").waitFor();
    silent(/ERR_/);
  });

  it("is led by keys: / to the field, Shift+Enter for lines, Escape to stop", async () => {
    let isGone = false;
    script = (send, response) => {
      send(says("Once upon"));
      return new Promise((done) => {
        response.on("close", () => {
          isGone = true;
          done();
        });
      });
    };
    await open();
    await page.locator("nav a").first().focus();
    await page.keyboard.press("/");
    await page.keyboard.type("a");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("b");
    await page.keyboard.press("Enter");
    await page.getByText("Once upon").waitFor();
    expect(await page.locator(".turns").getAttribute("aria-busy")).toBe("true");
    await page.keyboard.press("Escape");
    await page.getByText("Stopped. What was said is kept.").waitFor();
    expect(asked[0].messages[0].content).toBe("a\nb");
    await expect.poll(() => isGone).toBe(true);
    await expect.poll(() => page.locator(".turns").getAttribute("aria-busy")).toBe("false");
  });

  it("keeps what came when the connection is lost, and asks again", async () => {
    // Once it is on the screen: a socket that is reset takes along what the browser has not read yet.
    let lose = () => {};
    script = (send, response) => {
      send(says("Half an "));
      lose = () => response.destroy();
      return new Promise(() => {});
    };
    await open();
    await ask("What?");
    await page.getByText("Half an").waitFor();
    lose();
    await page.getByText("The connection was lost. What had come is kept.").waitFor();
    expect(await page.locator(".prose").innerText()).toBe("Half an");
    script = (send) => {
      send(says("Half an answer."));
      send(ends);
    };
    await page.getByRole("button", { name: "Try again" }).click();
    await page.getByText("Half an answer.").waitFor();
    expect(await page.locator(".problem").count()).toBe(0);
    expect(asked[1].messages).toEqual(asked[0].messages);
    silent(/net::ERR_/);
  });

  it("says what a server says, and when none is there", async () => {
    script = (_, response) => {
      response.writeHead(400, { "content-type": "application/json" });
      response.end(JSON.stringify({ error: { message: "the prompt has 9000 tokens; the context is 8192" } }));
    };
    await open();
    await ask("What?");
    await page.getByText("the prompt has 9000 tokens; the context is 8192").waitFor();
    script = (send) => send({ error: { message: "the device was lost" } });
    await page.getByRole("button", { name: "Try again" }).click();
    await page.getByText("the device was lost").waitFor();
    await page.locator("button.chosen").click();
    await page.getByLabel("Address", { exact: true }).fill("127.0.0.1:1");
    await page.getByRole("button", { name: "Connect" }).click();
    await page.getByText("127.0.0.1:1 does not answer. Is the server running").first().waitFor();
    // The one that answers is still there.
    expect(await page.locator(".lamp.on").count()).toBe(1);
    silent(/400|ERR_/);
  });

  it("shows hostile answers as text", async () => {
    const hostile = [
      '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>',
      "[click](javascript:window.pwned=1) ![x](https://example.org/leak.png)",
      "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe> [ok](https://example.org/)",
      `${">".repeat(5000)} deep`,
    ].join("\n\n");
    script = (send) => {
      send(says(hostile));
      send(ends);
    };
    await open();
    await ask("<b>What?</b>");
    await page.locator(".answer footer").waitFor();
    expect(await page.locator(".turn :is(img, script, iframe, b)").count()).toBe(0);
    expect(await page.locator(".prose").innerText()).toContain('<img src=x onerror="window.pwned=1">');
    const links = await page
      .locator(".prose a")
      .evaluateAll((all) => all.map((a) => (a as HTMLAnchorElement).href));
    for (const link of links) expect(link).toMatch(/^https:\/\/example\.org\//);
    expect(await page.evaluate(() => (globalThis as { pwned?: number }).pwned)).toBeUndefined();
  });

  it("draws what another hand has left in the storage, but for what is damaged", async () => {
    const turn = { question: "Left?", thinking: "", state: "end", model: "m", documents: [], problem: null };
    const slow = `Here. ${"**_a".repeat(8000)}`;
    const left = [
      { ...turn, answer: "Kept.", figures: 5 },
      { ...turn, answer: slow, figures: { promptTokens: "x" } },
      { ...turn, question: "Damaged?", answer: null },
    ];
    await page.addInitScript(
      (text) => localStorage.setItem("nibble.conversation", text),
      JSON.stringify({ version: 1, turns: left }),
    );
    await open();
    await turns(2);
    expect(await page.locator(".prose").first().innerText()).toBe("Kept.");
    expect(await page.locator(".prose").last().innerText()).toBe(slow);
    await ask("On?");
    await page.getByText("Hello.").waitFor();
  });

  it("takes text documents, by button and by drop, and refuses others by name", async () => {
    await open();
    const attach = (file: string, content: Buffer) =>
      page.getByLabel("Documents").setInputFiles({ name: file, mimeType: "", buffer: content });
    await attach("scan.pdf", Buffer.from("%PDF-1.7\0"));
    await page.getByText("scan.pdf: a damaged PDF").waitFor();
    await attach("words.pdf", Buffer.from(pdf(["The access code is 48213."])));
    await page.getByText("words.pdf").waitFor();
    await attach("letter.docx", Buffer.from(zip(docx("One.", "Two."))));
    await page.getByText("letter.docx").waitFor();
    await attach("fact.txt", Buffer.from(FACT));
    await page.getByText("35 bytes, 10 tokens").waitFor();
    await expect.poll(() => page.locator(".notice").count()).toBe(0);
    await page.evaluate(() => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File(["A second text."], "second.md"));
      const event = (type: string) => new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer });
      document.querySelector(".chat")!.dispatchEvent(event("dragover"));
      document.querySelector(".chat")!.dispatchEvent(event("drop"));
    });
    await page.locator(".document").nth(3).waitFor();
    await ask(QUESTION);
    await page.locator(".answer footer").waitFor();
    expect(asked[0].messages).toEqual([
      { role: "system", content: `The access code is 48213.\n\nOne.\n\nTwo.\n\n${FACT}\n\nA second text.` },
      { role: "user", content: QUESTION },
    ]);
    expect(await page.locator(".question .document").count()).toBe(4);
  });

  it("draws what a person did before the next thing they do, however late a frame comes", async () => {
    hasApi = false;
    await page.addInitScript("requestAnimationFrame = (draw) => setTimeout(draw, 1000);");
    // As in Firefox while nobody answers whether the page may keep files.
    await page.addInitScript("StorageManager.prototype.persist = () => new Promise(() => {});");
    await open(false);
    const keep = page.getByLabel("Keep the file in this browser");
    await keep.check();
    await page
      .getByLabel("Model files")
      .setInputFiles({ name: "cut.gguf", mimeType: "", buffer: Buffer.from("G") });
    await page.locator(".kept").getByText("cut").waitFor();
    await page.getByLabel("Or a GGUF file's address").fill("none.gguf");
    await page.getByLabel("Or a GGUF file's address").press("Enter");
    await page.getByText(/none\.gguf.*404/).waitFor();
    silent(/404/);
  });

  it(
    "runs needle in this browser's WebGPU, on a document",
    async () => {
      hasApi = false;
      await open(false);
      await inWorker(`(${holdDevice})();`);
      // From the disk, kept in the browser's own file system.
      await page.getByLabel("Keep the file in this browser").check();
      await page
        .getByLabel("Model files")
        .setInputFiles(join(root, "models/needle-14m/needle-14m-Q8_0.gguf"));
      await page.locator(".lamp.on").waitFor({ timeout: 60_000 });
      await page
        .getByLabel("Documents")
        .setInputFiles([{ name: "fact.txt", mimeType: "", buffer: Buffer.from(FACT) }]);
      await page.locator(".document").waitFor();
      expect(await page.locator(".document .figures").innerText()).toMatch(/^35 bytes, \d+ tokens$/);
      await page
        .getByLabel("Documents")
        .setInputFiles([{ name: "long.txt", mimeType: "", buffer: Buffer.from("one two ".repeat(20_000)) }]);
      await page
        .getByText(/^long\.txt has [\d,]+ tokens; the context of needle-14m-Q8_0 holds 8,192/)
        .waitFor();
      // A GPU in software takes a second a token; browser.test.ts has whole answers.
      await page.locator("button.chosen").click();
      await page.getByLabel("Longest answer, tokens").fill("4");
      await page.getByRole("button", { name: "Close" }).click();
      await ask(QUESTION);
      await page.getByText("reached its longest length").waitFor({ timeout: 120_000 });
      expect(ANSWER).toContain(await page.locator(".prose").innerText());
      expect(await page.locator("footer .figures").innerText()).toMatch(/^4 tokens/);
      const held = Number(/^(\d+) of 8,192 tokens$/.exec(await gauge("cached"))?.[1]);
      expect(held).toBeGreaterThan(30);
      expect(await gauge("weighs")).toBe(`${bytes(held * 1280)} of 10.0 MiB`);
      expect(await gauge("in-f16")).toBe(`${bytes(held * 4096)} of 32.0 MiB`);

      await page.workers()[0].evaluate("globalThis.device.destroy()");
      await ask("And now?");
      await page
        .getByText(/the device was lost .*Load the model again/)
        .first()
        .waitFor();
      expect(await page.locator(".lamp.on").count()).toBe(0);
      // What was said before is still there, and the way back too.
      expect(await page.locator(".prose").innerText()).toContain("The favorite color");
      await page.locator(".panel").getByRole("button", { name: "Try again" }).waitFor();
      await page.getByRole("button", { name: "Remove needle-14m-Q8_0" }).click();
      await expect.poll(() => page.locator(".kept li").count()).toBe(0);
      silent(/404/);
    },
    PATIENCE_MS,
  );

  it("is what nibble serve gives: chats over its API, with its key", async () => {
    // Its page is the build's.
    const served = await serveNeedle(["--device", "cpu", "--kv", "int4", "--api-key", "secret"]);
    try {
      await page.goto(served.url);
      await page.getByLabel(/^API key/).fill("secret");
      await page.getByRole("button", { name: "Connect" }).click();
      await page.locator(".lamp.on").waitFor();
      await page
        .getByLabel("Documents")
        .setInputFiles([{ name: "fact.txt", mimeType: "", buffer: Buffer.from(FACT) }]);
      await page.getByText(/^35 bytes, 12 tokens/).waitFor();
      await page
        .getByLabel("Documents")
        .setInputFiles([{ name: "long.txt", mimeType: "", buffer: Buffer.from("one two ".repeat(2000)) }]);
      await page.getByText(/^long\.txt has 4,001 tokens; the context of needle holds 1,024/).waitFor();
      await ask(QUESTION);
      await page.locator(".answer footer").waitFor();
      expect(await page.locator(".prose").innerText()).toBe(ANSWER);
      const held = Number(/^(\d+) of 1,024 tokens$/.exec(await gauge("cached"))?.[1]);
      expect(await gauge("weighs")).toBe(`${bytes(held * 1280)} of 1.3 MiB`);
      expect(await gauge("in-f16")).toBe(`${bytes(held * 4096)} of 4.0 MiB`);
      const head = await page.request.get(`${page.url()}models/needle-14m-Q8_0.gguf`, {
        headers: { range: "bytes=0-3" },
      });
      expect([head.status(), await head.text()]).toEqual([206, "GGUF"]);
    } finally {
      served.child.kill("SIGINT");
    }
    expect((await served.ended).stderr).toMatch(/^(nibble: 401 [^\n]*\n)+$/);
    silent(/401/);
  });

  it("says what to do without WebGPU", async () => {
    hasApi = false;
    await page.addInitScript("Object.defineProperty(navigator, 'gpu', { value: undefined })");
    await open(false);
    await page.getByText("This browser has no WebGPU. Use a current Chrome").waitFor();
    silent(/404/);
  });

  it(
    "plans as the command line does",
    async () => {
      await planningSmall();
      await open(true, "#plan");
      const table = await planned("int4", 64);
      await page.locator(".verdict").waitFor();
      expect(await page.getByTestId("part-weights").innerText()).toBe(bytes(table.plan.weightBytes));
      expect(await page.getByTestId("part-kv-cache").innerText()).toBe("1.3 GiB");
      const cache = (format: string, tokens: number) => page.getByTestId(`${format}-${tokens}`).innerText();
      for (const [tokens, f16, int4] of [
        [16_384, "512 MiB", "160 MiB"],
        [65_536, "2.0 GiB", "640 MiB"],
        [131_072, "4.0 GiB", "1.3 GiB"],
      ] as const)
        expect([await cache("f16", tokens), await cache("int4", tokens)]).toEqual([f16, int4]);
      // What memory would hold beyond the trained context, marked so.
      const last = await page.locator(".contexts tbody th").last().innerText();
      expect(last).toBe(`${grouped(table.formats[0].longestInMemory)}+`);
      const longest = await page.locator(".longest tbody tr").allInnerTexts();
      const formats = ["kv4", "kv3", "int4", "rq4", "f16"].map(
        (name) => table.formats.find((format) => format.name === name)!,
      );
      const expected = [...formats, ...table.peers].map(({ longestContext }) => grouped(longestContext));
      expect(longest.map((row) => row.split(/\s+/).at(-1))).toEqual(expected);

      await page.getByLabel("KV cache").selectOption("f16");
      await page.getByLabel("Memory").fill("4");
      const { shortfall } = await planned("f16", 4);
      // A plan takes a second on a busy machine.
      const verdict = () => expect.poll(() => page.getByTestId("verdict").innerText(), { timeout: 20_000 });
      await verdict().toBe(`Does not fit. ${shortfall}`);
      await page.getByLabel("Memory").fill("96");
      await verdict().toMatch(/^Fits\./);
    },
    PATIENCE_MS,
  );

  // Measuring takes a GPU in software a minute, in which the browser draws nothing.
  it("says why attention cannot be measured here", async () => {
    await open(true, "#bench");
    await inWorker("navigator.gpu.requestAdapter = async () => null;");
    await page.getByRole("button", { name: "Measure" }).click();
    await page.getByText(/no WebGPU adapter was found. Check that hardware acceleration is on/).waitFor();
    await page.getByRole("button", { name: "Measure" }).waitFor();
  });

  it("fits a phone, in light and dark", async () => {
    await planningSmall();
    for (const colorScheme of ["light", "dark"] as const) {
      await page.setViewportSize({ width: 375, height: 700 });
      await page.emulateMedia({ colorScheme });
      script = (send) => {
        send(
          says(`| a | b |\n|---|---|\n| ${"wide ".repeat(60)} | ${"x".repeat(300)} |\n\n${"y".repeat(300)}`),
        );
        send(ends);
      };
      await open();
      await ask("What?");
      await page.locator(".answer footer").last().waitFor();
      for (const hash of ["#chat", "#plan", "#bench"]) {
        await page.evaluate((to) => location.assign(to), hash);
        if (hash === "#plan") await page.locator(".verdict").waitFor();
        if (hash === "#bench") await page.getByRole("button", { name: "Measure" }).waitFor();
        expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(375);
        expect(await page.evaluate(lowestContrast)).toBeGreaterThanOrEqual(4.5);
      }
      await page.evaluate(() => location.assign("#chat"));
      if (colorScheme === "dark") await page.getByRole("button", { name: "Conversations" }).click();
      await page
        .locator(colorScheme === "dark" ? ".list .title" : ".answer footer")
        .first()
        .waitFor();
      expect(await findings()).toEqual([]);
      await page.locator("button.chosen").click();
      await page.locator("dialog .panel").waitFor();
      expect(await findings()).toEqual([]);
      await page.getByRole("button", { name: "Close" }).click();
    }
  });

  /** Waits until a server was found, unless there is none. */
  async function open(found = true, hash = ""): Promise<void> {
    // A service worker would take requests that a test answers itself; one test is about it.
    if (!isKeeping) await page.addInitScript("delete Navigator.prototype.serviceWorker");
    await page.goto(`${server.url}${hash}`);
    await page
      .locator(found ? ".lamp.on" : ".places")
      .first()
      .waitFor();
  }

  /** Another tab of the same browser, with the conversation that there is. */
  async function secondTab(): Promise<Page> {
    const other = await context.newPage();
    other.on("console", (message) => messages.push(message.text()));
    await other.goto(server.url);
    await other.locator(".lamp.on").waitFor();
    await other.locator(".list .title").click();
    await other.getByText("Hello.").waitFor();
    return other;
  }

  const field = () => page.getByLabel("Message");
  const turns = (count: number) => expect.poll(() => page.locator(".turn").count()).toBe(count);
  const gauge = (figure: string) => page.getByTestId(figure).innerText();

  async function ask(question: string): Promise<void> {
    await field().fill(question);
    await field().press("Enter");
    await page.getByText(question).last().waitFor();
  }

  /** What axe finds fault with: rule and element. */
  async function findings(): Promise<string[]> {
    await page.evaluate(axe);
    return page.evaluate(async () => {
      const { violations } = await (globalThis as unknown as { axe: typeof import("axe-core") }).axe.run({
        // Its slowest; lowestContrast looks at every text of every tab.
        rules: { "color-contrast": { enabled: false } },
      });
      return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 100)}`));
    });
  }

  /** Runs before anything else in the page's next worker. */
  function inWorker(code: string): Promise<unknown> {
    return changed(/\/assets\/worker-[^/]*\.js$/, (script) => code + script);
  }

  /** The planner begins with a small model: a plan of the 70B's 80 layers takes ten seconds of two cores. */
  function planningSmall(): Promise<unknown> {
    return changed(/\/assets\/planner-[^/]*\.js$/, (script) => {
      expect(script).toContain(LARGE);
      return script.replaceAll(LARGE, SMALL);
    });
  }

  /** The command line's plan of it, as JSON. */
  async function planned(
    kv: string,
    gib: number,
  ): Promise<Omit<PlanTable, "shortfall"> & { shortfall: string }> {
    const options = ["--device", "gpu", "--context", "131072", "--kv", kv, "--memory", `${gib}GB`, "--json"];
    return JSON.parse((await nibble(["plan", SMALL, ...options])).stdout);
  }

  /** Another script for one of the page's. */
  function changed(file: RegExp, change: (script: string) => string): Promise<unknown> {
    return page.route(file, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: change(await response.text()) });
    });
  }

  /** Browsers write failed requests on the console themselves. */
  function silent(expected: RegExp): void {
    messages = messages.filter((text) => !expected.test(text));
  }

  async function site(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (isDown) {
      response.destroy();
      return;
    }
    const path = normalize(new URL(request.url ?? "", "http://localhost").pathname);
    if (path === "/v1/models" && hasApi) {
      const nibble = {
        context: 8192,
        kv: "int4",
        cacheRates: [{ capacity: 8192, tokenBytes: 1280, tokenBytesF16: 4096 }],
        formats: [
          { name: "int4", rates: [{ capacity: 8192, tokenBytes: 1280, tokenBytesF16: 4096 }] },
          { name: "f16", rates: [{ capacity: 8192, tokenBytes: 4096, tokenBytesF16: 4096 }] },
        ],
      };
      const data = offered.map(({ id, state }) => ({
        ...{ id, object: "model" },
        ...(state === undefined || state === "loaded" ? { nibble } : {}),
        ...(state && { status: { value: state, progress: { bytes: 1, totalBytes: 4 } } }),
      }));
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ object: "list", data }));
    } else if (path === "/models/load" && hasApi) {
      let body = "";
      for await (const piece of request) body += piece;
      offered.find(({ id }) => id === JSON.parse(body).model)!.state = "loading";
      response.end(JSON.stringify({ success: true }));
    } else if (path === "/tokenize" && hasApi) {
      response.end(JSON.stringify({ tokens: new Array(10).fill(1) }));
    } else if (path === "/v1/chat/completions" && hasApi) {
      let body = "";
      for await (const piece of request) body += piece;
      asked.push(JSON.parse(body));
      const send = (event: object) => {
        if (!response.headersSent) response.setHeader("content-type", "text/event-stream");
        response.write(`data: ${JSON.stringify(event)}\n\n`);
      };
      await script(send, response);
      if (!response.writableEnded) response.end("data: [DONE]\n\n");
    } else {
      try {
        const file = path === "/" ? "/index.html" : path;
        const content = readFileSync(join(folder, file));
        answer(request, response, content, {
          "content-type": TYPES[extname(file)] ?? "application/octet-stream",
        });
      } catch {
        response.writeHead(404).end();
      }
    }
  }
});

const TYPES: Record<string, string> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};

/** In a page: what is read of a conversation's turns arrives when `reads.held` is called, if it is to be held. */
function holdReads(): void {
  const reads = { isHolding: false, held: [] as (() => void)[] };
  Object.assign(globalThis, { reads });
  const { getAll } = IDBIndex.prototype;
  IDBIndex.prototype.getAll = function (...all) {
    const request = getAll.apply(this, all);
    if (!reads.isHolding) return request;
    const late: { result?: unknown; onsuccess?: () => void } = {};
    request.onsuccess = () =>
      reads.held.push(() => {
        late.result = request.result;
        late.onsuccess?.();
      });
    return late as unknown as IDBRequest<unknown[]>;
  };
}

/** In a worker: keeps the GPUDevice that will be asked for, so that it can be lost. */
function holdDevice(): void {
  const { prototype } = globalThis.GPUAdapter;
  const request = prototype.requestDevice;
  prototype.requestDevice = async function (...all) {
    const device = await request.apply(this, all);
    Object.assign(globalThis, { device });
    return device;
  };
}

/** In the page: the lowest contrast of any text to what lies behind it. (WCAG 2.2, 1.4.3) */
function lowestContrast(): number {
  const colour = (text: string) => (text.match(/[\d.]+/g) ?? []).map(Number);
  const luminance = ([r, g, b]: number[]) => {
    const linear = [r, g, b].map((v) =>
      v / 255 <= 0.04045 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4,
    );
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const ground = (element: Element | null): number[] => {
    if (!element) return [255, 255, 255];
    const found = colour(getComputedStyle(element).backgroundColor);
    return found.length === 3 ? found : ground(element.parentElement);
  };
  let lowest = 21;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement!;
    if (!node.textContent?.trim() || !element.checkVisibility() || element.closest(":disabled, .hidden"))
      continue;
    const [a, b] = [luminance(colour(getComputedStyle(element).color)), luminance(ground(element))];
    lowest = Math.min(lowest, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return lowest;
}
