/** `nibble pull` and `hf:` names as a person uses them: in processes that are stopped, killed and run side by side. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { describe as describeDownload, downloadLine } from "../../src/app/pull.ts";
import { asked } from "../format/http-server.ts";
import { COMMIT, type FakeHub, fakeHub, sha256 } from "../format/hub/fake-hub.ts";
import { nibble, requireFreshBuild, root, start } from "./nibble.ts";
import { refused } from "./refused.ts";

const NEEDLE = readFileSync(join(root, "models/needle-14m/needle-14m-Q8_0.gguf"));
const LARGE = Buffer.alloc(20_000_000).map((_, i) => (i * 7 + (i >> 8)) & 255);

let home: string;
let hub: FakeHub;

beforeAll(requireFreshBuild);
beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), "nibble-pull-"));
  hub = await fakeHub({ "needle-14m-Q8_0.gguf": NEEDLE, "other-Q4_0.gguf": LARGE });
  for (const name of Object.keys(process.env))
    if (/^(HF_|HUGGING|TRANSFORMERS_)/.test(name)) vi.stubEnv(name, undefined);
  vi.stubEnv("HF_HOME", home);
  vi.stubEnv("HF_ENDPOINT", hub.endpoint);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await hub.close();
  rmSync(home, { recursive: true, force: true });
});

const repo = () => join(home, "hub/models--owner--name");
const snapshot = (file: string) => join(repo(), "snapshots", COMMIT, file);
const journal = () => join(repo(), "blobs", `${sha256(LARGE)}.nibble-journal`);

/** Files come at 4 MB a second. */
function slowly(): void {
  hub.intercept = (request, response, at) => {
    if (at === "hub") return false;
    const range = asked(request, LARGE.length);
    const { start: first, end } = range ?? { start: 0, end: LARGE.length };
    response.writeHead(206, {
      "content-range": `bytes ${first}-${end - 1}/${LARGE.length}`,
      "content-length": end - first,
    });
    let sent = first;
    const timer = setInterval(() => {
      const next = Math.min(sent + 100_000, end);
      response.write(LARGE.subarray(sent, next));
      sent = next;
      if (sent === end) {
        clearInterval(timer);
        response.end();
      }
    }, 25);
    response.on("close", () => clearInterval(timer));
    return true;
  };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(20);
}

/** Bytes that were asked for, by the ranges of requests. */
function askedBytes(requests: readonly string[]): number {
  const ranges = requests.flatMap((line) => [...line.matchAll(/bytes=(\d+)-(\d+)/g)]);
  return ranges.reduce((sum, [, first, last]) => sum + Number(last) - Number(first) + 1, 0);
}

describe("nibble pull", () => {
  it("prints the path, and nothing else in a pipe", async () => {
    const ended = await nibble(["pull", "hf:owner/name:q8_0"]);
    expect(ended).toEqual({ code: 0, stdout: `${snapshot("needle-14m-Q8_0.gguf")}\n`, stderr: "" });
    const json = await nibble(["pull", "owner/name:q8_0", "--offline", "--json"]);
    expect(JSON.parse(json.stdout)).toEqual({
      model: "hf:owner/name:q8_0",
      path: snapshot("needle-14m-Q8_0.gguf"),
      commit: COMMIT,
      files: [{ path: "needle-14m-Q8_0.gguf", bytes: NEEDLE.length }],
      bytes: NEEDLE.length,
      cached: true,
    });
  });

  it.each<[string, string[], number, RegExp]>([
    [
      "no name",
      ["pull", "needle"],
      2,
      /^nibble: model is "hf:needle"; allowed: hf:owner\/name, optionally followed/,
    ],
    ["a missing quantization", ["pull", "hf:owner/name:Q2_K"], 2, /allowed: .*Q8_0 \(0\.0\d+ GB\).*Q4_0/],
    ["an unknown repository", ["pull", "hf:owner/none"], 1, /no such repository, or one that needs a token/],
    ["a revision", ["pull", "hf:owner/name@v9"], 1, /no such revision/],
    ["offline", ["run", "hf:owner/name", "hi", "--offline"], 1, /is not in .*offline mode is on/],
    ["no connections", ["pull", "hf:owner/name", "--connections", "0"], 2, /--connections is 0; allowed/],
  ])("refuses %s in one line", async (_, args, code, message) => {
    // The first in a process of its own.
    const ended = await (args.includes("needle") ? nibble : refused)(args);
    expect(ended).toEqual({ code, stdout: "", stderr: expect.stringMatching(message) });
    expect(ended.stderr.split("\n").length).toBe(2);
  });

  it("stopped by Ctrl-C keeps what came, and goes on", async () => {
    slowly();
    const running = start(["pull", "hf:owner/name:q4_0"]);
    await until(() => hub.files.requests.length >= 2);
    await sleep(300);
    running.child.kill("SIGINT");
    expect(await running.ended).toEqual({ code: 130, stdout: "", stderr: "" });
    expect(existsSync(join(repo(), "snapshots"))).toBe(false);
    expect(readdirSync(join(home, "hub/.locks/models--owner--name"))).toEqual([]);
    const kept = JSON.parse(readFileSync(journal(), "utf8")).done;
    expect(kept.length).toBeGreaterThan(0);

    hub.intercept = () => false;
    const requests = hub.files.requests.length;
    expect((await nibble(["pull", "hf:owner/name:q4_0"])).code).toBe(0);
    expect(askedBytes(hub.files.requests.slice(requests))).toBeLessThan(LARGE.length);
    expect(Buffer.compare(readFileSync(snapshot("other-Q4_0.gguf")), LARGE)).toBe(0);
  });

  it("killed with -9 is taken over at once, and goes on", async () => {
    slowly();
    const running = start(["pull", "hf:owner/name:q4_0"]);
    await until(() => existsSync(journal()));
    running.child.kill("SIGKILL");
    expect((await running.ended).code).toBeNull();
    expect(readdirSync(join(home, "hub/.locks/models--owner--name")).length).toBe(1);

    hub.intercept = () => false;
    const requests = hub.files.requests.length;
    expect((await nibble(["pull", "hf:owner/name:q4_0"])).code).toBe(0);
    expect(askedBytes(hub.files.requests.slice(requests))).toBeLessThan(LARGE.length);
    expect(Buffer.compare(readFileSync(snapshot("other-Q4_0.gguf")), LARGE)).toBe(0);
    expect(readdirSync(join(repo(), "blobs"))).toEqual([sha256(LARGE)]);
    expect(readdirSync(join(home, "hub/.locks/models--owner--name"))).toEqual([]);
  });

  it("twice at once downloads once; who waits goes on when the other is killed", async () => {
    slowly();
    const both = [1, 2].map(() => start(["pull", "hf:owner/name:q4_0"]));
    await until(() => existsSync(journal()));
    const lock = join(home, "hub/.locks/models--owner--name", `${sha256(LARGE)}.nibble.lock`);
    const { pid } = JSON.parse(readFileSync(lock, "utf8"));
    const other = both.find(({ child }) => child.pid !== pid)!;
    hub.intercept = () => false;
    process.kill(pid, "SIGKILL");
    expect(await other.ended).toEqual({ code: 0, stdout: `${snapshot("other-Q4_0.gguf")}\n`, stderr: "" });
    expect(Buffer.compare(readFileSync(snapshot("other-Q4_0.gguf")), LARGE)).toBe(0);
  });
});

describe("hf: names", () => {
  it("are looked at on the Hub: nothing is downloaded", async () => {
    const inspected = await nibble(["inspect", "hf:owner/name:Q8_0", "--json"]);
    expect(inspected).toMatchObject({ code: 0, stderr: "" });
    const local = JSON.parse((await nibble(["inspect", "needle", "--json"])).stdout);
    expect(JSON.parse(inspected.stdout)).toEqual({ ...local, path: "hf:owner/name:Q8_0" });
    expect((await nibble(["plan", "hf:owner/name:Q8_0", "--json"])).code).toBe(0);
    expect(existsSync(repo())).toBe(false);
  });

  it("are models everywhere", async () => {
    const ran = await nibble([
      "run",
      "hf:owner/name:Q8_0",
      "The sea",
      "-n",
      "3",
      "--context",
      "256",
      "--json",
    ]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(JSON.parse(ran.stdout).generatedTokens).toBe(3);
    const requests = hub.hub.requests.length;
    const inspected = await nibble(["inspect", "hf:owner/name:Q8_0", "--json"]);
    expect(JSON.parse(inspected.stdout).path).toBe(snapshot("needle-14m-Q8_0.gguf"));
    expect((await nibble(["plan", "hf:owner/name:Q8_0", "--offline", "--json"])).code).toBe(0);
    expect(hub.hub.requests.length).toBe(requests);
  });
});

describe("the line of a download", () => {
  it("tells amount, speed and time left", () => {
    const gib = 2 ** 30;
    expect(describeDownload(gib, 4 * gib, 2 ** 20 * 48)).toBe("1.0 GiB of 4.0 GiB at 48.0 MiB/s, 1:04 left");
    expect(describeDownload(0, 40 * gib, 2 ** 20 * 5)).toBe("0 bytes of 40.0 GiB at 5.0 MiB/s, 2:16:32 left");
    expect(describeDownload(0, gib, null)).toBe("0 bytes of 1.0 GiB");
    expect(describeDownload(0, gib, 0)).toBe("0 bytes of 1.0 GiB");
  });

  it("is nothing where nobody looks", () => {
    const line = downloadLine();
    line.show({ state: "downloading", file: "x", bytes: 1, totalBytes: 2 });
    line.clear();
  });
});
