/** Downloads from a Hub that behaves, and from one that drops, lies, limits and changes files meanwhile. */
import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
} from "node:fs";
import { mkdir, open, symlink, writeFile } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { AbortedError, ArgumentError, FormatError, NibbleError } from "../../../src/format/errors.ts";
import type { PullProgress } from "../../../src/format/hub/downloads.ts";
import { type PullOptions, pull } from "../../../src/format/hub/pull.ts";
import { randomBytes } from "../../device/random-tensor.ts";
import { answer, asked } from "../http-server.ts";
import { COMMIT, entryOf, type FakeHub, fakeHub, gitSha1, sha256 } from "./fake-hub.ts";

const PIECE_BYTES = 1024 * 1024;
/** Six pieces and a bit. */
const LARGE = Uint8Array.from(randomBytes("f32", 1, (6 * PIECE_BYTES) / 4 + 25, 1));
const SMALL = LARGE.slice(0, 5000);

let cache: string;
let hub: FakeHub;
let options: PullOptions;
const repo = () => join(cache, "models--owner--name");
const snapshot = (path: string) => join(repo(), "snapshots", COMMIT, path);

async function start(files: Record<string, Uint8Array | string>): Promise<void> {
  hub = await fakeHub(files);
  options = {
    ...{ offline: false, symlinks: true, endpoint: hub.endpoint },
    cache,
    token: null,
    backoffMs: 1,
    stallMs: 2000,
    attempts: 3,
    rangeBytes: PIECE_BYTES,
  };
}

beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), "nibble-hub-"));
});
afterEach(async () => {
  vi.restoreAllMocks();
  await hub.close();
  rmSync(cache, { recursive: true, force: true });
});

const failure = (name = "hf:owner/name", more: PullOptions = {}): Promise<NibbleError> =>
  pull(name, { ...options, ...more }).then(
    () => Promise.reject(new Error("it was downloaded")),
    (error) => {
      expect(error).toBeInstanceOf(NibbleError);
      return error;
    },
  );

/** Nothing under a final name, or in a snapshot. */
function expectNothingInstalled(): void {
  expect(existsSync(join(repo(), "snapshots"))).toBe(false);
  expect(existsSync(join(repo(), "refs"))).toBe(false);
  const blobs = existsSync(join(repo(), "blobs")) ? readdirSync(join(repo(), "blobs")) : [];
  expect(blobs.filter((name) => /^[0-9a-f]+$/.test(name))).toEqual([]);
}

const rangesOf = (requests: readonly string[]) =>
  requests.flatMap((line) => /bytes=(\d+)-(\d+)/.exec(line)?.slice(1).map(Number) ?? []);

describe("a download", () => {
  it("lies in Python's layout, and is used without asking again", async () => {
    await start({ "sub/x-Q4_K_M.gguf": LARGE, "x-Q8_0.gguf": SMALL });
    const seen: PullProgress[] = [];
    const { path, ...rest } = await pull("hf:owner/name", {
      ...options,
      onProgress: (now) => seen.push(now),
    });
    expect(rest).toEqual({
      commit: COMMIT,
      files: [{ path: "sub/x-Q4_K_M.gguf", bytes: LARGE.length }],
      bytes: LARGE.length,
      cached: false,
    });
    expect(path).toBe(snapshot("sub/x-Q4_K_M.gguf"));
    expect(readlinkSync(path)).toBe(`../../../blobs/${sha256(LARGE)}`);
    expect(Buffer.compare(readFileSync(path), LARGE)).toBe(0);
    expect(readFileSync(join(repo(), "refs/main"), "utf8")).toBe(COMMIT);
    expect(readdirSync(join(repo(), "blobs"))).toEqual([sha256(LARGE)]);
    expect(readdirSync(join(cache, ".locks/models--owner--name"))).toEqual([]);
    expect(seen.at(-1)).toMatchObject({
      state: "downloading",
      bytes: LARGE.length,
      totalBytes: LARGE.length,
    });
    const counted = seen.filter(({ state }) => state === "downloading").map(({ bytes }) => bytes);
    expect(counted).toEqual([...counted].sort((a, b) => a - b));

    const asked = hub.hub.requests.length;
    expect(await pull("hf:owner/name:q4_k_m", options)).toEqual({ path, ...rest, cached: true });
    expect(hub.hub.requests.length).toBe(asked);
  });

  it("asks for ranges side by side, and the Hub once for their address", async () => {
    await start({ "x-Q4_0.gguf": LARGE });
    let together = 0;
    let most = 0;
    hub.intercept = (request, response, at) => {
      if (at === "hub") return false;
      most = Math.max(most, ++together);
      response.on("close", () => together--);
      setTimeout(() => answer(request, response, LARGE), 20);
      return true;
    };
    await pull("hf:owner/name", options);
    expect(most).toBeGreaterThan(1);
    const starts = rangesOf(hub.files.requests).filter((_, i) => i % 2 === 0);
    expect(starts.sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6].map((i) => i * PIECE_BYTES));
    // Four that began together each asked; a fifth would not have.
    expect(hub.hub.requests.filter((line) => line.includes("/resolve/")).length).toBeLessThanOrEqual(4);
  });

  it("of a safetensors folder has what belongs to it; small files by git's hash", async () => {
    const shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    const index = JSON.stringify({ weight_map: { a: shards[0], b: shards[1] } });
    await start({
      "config.json": "{}",
      "tokenizer.json": '{"a": 1}',
      "model.safetensors.index.json": index,
      [shards[0]]: SMALL,
      [shards[1]]: LARGE.slice(0, 9000),
      "pytorch_model.bin": LARGE,
    });
    const { path, files } = await pull("hf:owner/name", options);
    expect(path).toBe(snapshot("").replace(/\/$/, ""));
    expect(readdirSync(path).sort()).toEqual([
      "config.json",
      shards[0],
      shards[1],
      "model.safetensors.index.json",
      "tokenizer.json",
    ]);
    expect(files.length).toBe(5);
    expect(readlinkSync(snapshot("config.json"))).toBe(`../../blobs/${gitSha1(Buffer.from("{}"))}`);
    const offline = await pull("hf:owner/name", { ...options, offline: true });
    expect(offline).toMatchObject({ path, cached: true });
  });

  it("of all parts of a split file", async () => {
    const parts = [1, 2].map((i) => `Q8_0/x-Q8_0-0000${i}-of-00002.gguf`);
    await start({ [parts[0]]: SMALL, [parts[1]]: LARGE.slice(0, 7000), "x-Q4_K_M.gguf": LARGE });
    const { path, files } = await pull("hf:owner/name:q8_0", options);
    expect(path).toBe(snapshot(parts[0]));
    expect(files.map((file) => file.path)).toEqual(parts);
    expect(existsSync(snapshot(parts[1]))).toBe(true);
  });

  it("of an empty file beside the others", async () => {
    await start({ "config.json": "", "tokenizer.json": "{}", "model.safetensors": SMALL });
    await pull("hf:owner/name", options);
    expect(statSync(snapshot("config.json")).size).toBe(0);
  });

  it("goes into the snapshot itself where there are no symbolic links", async () => {
    await start({ "x-Q4_0.gguf": SMALL });
    const { path } = await pull("hf:owner/name", { ...options, symlinks: false });
    expect(lstatSync(path).isFile()).toBe(true);
    expect(readdirSync(join(repo(), "blobs"))).toEqual([]);
    expect((await pull("hf:owner/name", { ...options, refresh: true, symlinks: false })).cached).toBe(true);
  });

  it("of a newer commit brings only what changed, when asked to look", async () => {
    await start({ "config.json": "{}", "tokenizer.json": "{}", "model.safetensors": LARGE });
    await pull("hf:owner/name", options);
    hub.commit = "d".repeat(40);
    hub.content.set("config.json", Buffer.from('{"new": 1}'));
    const before = hub.files.requests.length;
    expect((await pull("hf:owner/name", options)).commit).toBe(COMMIT);
    const newer = await pull("hf:owner/name", { ...options, refresh: true });
    expect([newer.commit, newer.cached]).toEqual([hub.commit, false]);
    expect(hub.files.requests.length).toBe(before);
    expect(readFileSync(join(newer.path, "config.json"), "utf8")).toBe('{"new": 1}');
    expect(readFileSync(snapshot("config.json"), "utf8")).toBe("{}");
    expect((await pull(`hf:owner/name@${COMMIT}`, options)).commit).toBe(COMMIT);
  });

  it("uses what Python has downloaded", async () => {
    await start({ "x-Q4_0.gguf": LARGE });
    const blob = join(repo(), "blobs", sha256(LARGE));
    await mkdir(dirname(blob), { recursive: true });
    await mkdir(dirname(snapshot("x")), { recursive: true });
    await writeFile(blob, LARGE);
    await symlink(`../../blobs/${sha256(LARGE)}`, snapshot("x-Q4_0.gguf"));
    await mkdir(join(repo(), "refs"));
    await writeFile(join(repo(), "refs/main"), COMMIT);
    expect(await pull("hf:owner/name", { ...options, offline: true })).toMatchObject({ cached: true });
    expect(hub.hub.requests).toEqual([]);
    // Once the list of files is known, even that is not asked for again.
    for (const requests of [2, 2]) {
      expect(await pull("hf:owner/name", options)).toMatchObject({ cached: true });
      expect(hub.hub.requests.length).toBe(requests);
    }
    expect(hub.files.requests).toEqual([]);
  });

  it("does not take Python's half file for its own, nor a blob of another size for whole", async () => {
    await start({ "x-Q4_0.gguf": SMALL });
    await mkdir(join(repo(), "blobs"), { recursive: true });
    await writeFile(join(repo(), "blobs", `${sha256(SMALL)}.incomplete`), "half");
    await writeFile(join(repo(), "blobs", sha256(SMALL)), "short");
    const { path } = await pull("hf:owner/name", options);
    expect(Buffer.compare(readFileSync(path), SMALL)).toBe(0);
    expect(readFileSync(join(repo(), "blobs", `${sha256(SMALL)}.incomplete`), "utf8")).toBe("half");
  });
});

describe("a token", () => {
  it("goes to the Hub, and nowhere that it redirects to", async () => {
    await start({ "x-Q4_0.gguf": SMALL });
    await pull("hf:owner/name", { ...options, token: "hf_secret" });
    const to = (url: string) =>
      hub.authorizations.filter(([host]) => url.includes(host)).map(([, authorization]) => authorization);
    expect(new Set(to(hub.hub.url))).toEqual(new Set(["Bearer hf_secret"]));
    expect(new Set(to(hub.files.url))).toEqual(new Set([undefined]));
  });

  it("does not follow a next page to another host", async () => {
    await start({ "x-Q4_0.gguf": SMALL, "y-Q8_0.gguf": SMALL });
    const [first, second] = [...hub.content].map(([path, bytes]) => [entryOf(path, bytes)]);
    hub.intercept = (request, response, at) => {
      if (at !== "hub" || !request.url!.includes("/tree/")) return false;
      const next = `<${hub.files.url}api/models/owner/name/tree/${COMMIT}?recursive=true&cursor=2>; rel="next"`;
      const last = request.url!.includes("cursor=2");
      response.writeHead(200, last ? {} : { link: next }).end(JSON.stringify(last ? second : first));
      return true;
    };
    await pull("hf:owner/name:Q8_0", { ...options, token: "hf_secret" });
    expect(hub.hub.requests.filter((line) => line.includes("cursor=2")).length).toBe(1);
    expect(hub.files.requests.every((line) => !line.includes("/api/"))).toBe(true);
  });

  it("is in no error", async () => {
    await start({ "x-Q4_0.gguf": SMALL });
    hub.intercept = (_, response) => Boolean(response.writeHead(403).end());
    const error = await failure("hf:owner/name", { token: "hf_secret" });
    expect(error.message).toMatch(/no access with this token/);
    expect(JSON.stringify([error.message, error.stack, error.cause])).not.toContain("hf_secret");
  });
});

describe("no access, or nothing there", () => {
  const gated = { "x-error-code": "GatedRepo" };
  it.each<[string, RegExp, number, Record<string, string>, string | null]>([
    [
      "gated, without a token",
      /gated.*Accept its conditions at http.*\/owner\/name, then set HF_TOKEN/,
      401,
      gated,
      null,
    ],
    ["gated, not accepted", /gated.*has no access to.*\/owner\/name/, 403, gated, "hf_x"],
    ["unknown or private", /no such repository, or one that needs a token: set HF_TOKEN/, 401, {}, null],
    ["private", /no access with this token/, 403, {}, "hf_x"],
    ["unknown", /no such repository \(404\)/, 404, { "x-error-code": "RepoNotFound" }, "hf_x"],
    ["a teapot", /answered 418/, 418, {}, null],
  ])("%s", async (_, message, status, headers, token) => {
    await start({ "x-Q4_0.gguf": SMALL });
    hub.intercept = (_request, response) => Boolean(response.writeHead(status, headers).end());
    expect(await failure("hf:owner/name", { token })).toMatchObject({
      code: "io",
      message: expect.stringMatching(message),
    });
    expectNothingInstalled();
  });

  it("a revision, a quantization", async () => {
    await start({ "x-Q4_0.gguf": SMALL });
    expect((await failure("hf:owner/name@v9")).message).toMatch(/no such revision/);
    const error = await failure("hf:owner/name:Q9");
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error.message).toMatch(/Q4_0 \(/);
    expectNothingInstalled();
  });
});

describe("a server that is busy or drops", () => {
  it("is asked again, after the time that it asks for", async () => {
    await start({ "x-Q4_0.gguf": LARGE });
    let left = 2;
    const waits: number[] = [];
    hub.intercept = (_, response, at) => {
      waits.push(performance.now());
      if (at !== "hub" || left-- <= 0) return false;
      response.writeHead(left === 1 ? 429 : 503, left === 1 ? { "retry-after": "1" } : {}).end();
      return true;
    };
    await pull("hf:owner/name", options);
    expect(waits[1] - waits[0]).toBeGreaterThan(900);
  });

  it("for too long is one error", async () => {
    await start({ "x-Q4_0.gguf": SMALL });
    hub.intercept = (_, response) => Boolean(response.writeHead(500).end());
    expect((await failure()).message).toMatch(/hf:owner\/name: the server answered 500, 3 times in a row/);
    hub.intercept = (_, response) =>
      Boolean(response.writeHead(429, { ratelimit: '"api";r=0;t=3600' }).end());
    expect((await failure()).message).toMatch(/asks to wait 60 minutes.*HF_TOKEN/);
  });

  it("at every few bytes: what came is never asked for again", async () => {
    await start({ "x-Q4_0.gguf": LARGE });
    let sent = 0;
    hub.intercept = (request, response, at) => {
      if (at !== "files") return false;
      const { start, end } = asked(request, LARGE.length)!;
      response.writeHead(206, { "content-range": `bytes ${start}-${end - 1}/${LARGE.length}` });
      const last = Math.min(end, start + 300_000);
      sent += last - start;
      response.write(LARGE.subarray(start, last), () => setTimeout(() => response.destroy(), 5));
      return true;
    };
    const { path } = await pull("hf:owner/name", { ...options, attempts: 9 });
    expect(Buffer.compare(readFileSync(path), LARGE)).toBe(0);
    // A cut connection may take along what the kernel still held.
    expect(sent).toBeLessThan(LARGE.length * 1.7);
  });

  it("and sends small files whole, whatever was asked for", async () => {
    await start({ "x-Q4_0.gguf": LARGE.slice(0, 900_000) });
    const bytes = hub.content.get("x-Q4_0.gguf")!;
    let first = true;
    hub.intercept = (_, response, at) => {
      if (at !== "files") return false;
      response.writeHead(200, { "content-length": bytes.length });
      if (first) response.write(bytes.subarray(0, 400_000), () => setTimeout(() => response.destroy(), 20));
      else response.end(bytes);
      first = false;
      return true;
    };
    const { path } = await pull("hf:owner/name", options);
    expect(Buffer.compare(readFileSync(path), bytes)).toBe(0);
  });

  it("that goes silent counts as dropped", async () => {
    await start({ "x-Q4_0.gguf": SMALL });
    let first = true;
    hub.intercept = (_, response, at) => {
      if (at !== "files" || !first) return false;
      first = false;
      response.writeHead(200, { "content-length": SMALL.length }).write(SMALL.subarray(0, 10));
      return true;
    };
    await pull("hf:owner/name", { ...options, stallMs: 150 });
  });

  it("whose address has expired is asked for a new one", async () => {
    await start({ "x-Q4_0.gguf": LARGE });
    const expired = new Set<string>();
    hub.intercept = (request, response, at) => {
      if (at !== "files") return false;
      if (expired.has(request.url!)) return Boolean(response.writeHead(403).end());
      expired.add(request.url!);
      return false;
    };
    const { path } = await pull("hf:owner/name", { ...options, connections: 1 });
    expect(Buffer.compare(readFileSync(path), LARGE)).toBe(0);
    expect(expired.size).toBeGreaterThan(1);
  });
});

describe("a server that lies", () => {
  const sends = (badly: (response: ServerResponse, start: number, end: number) => void) => {
    hub.intercept = (request, response, at) => {
      if (at !== "files") return false;
      const range = asked(request, LARGE.length);
      badly(response, range?.start ?? 0, range?.end ?? LARGE.length);
      return true;
    };
  };
  const range = (start: number, end: number, size = LARGE.length) => ({
    "content-range": `bytes ${start}-${end - 1}/${size}`,
  });

  it.each<[string, RegExp, (response: ServerResponse, start: number, end: number) => void]>([
    [
      "about the size",
      /listed with/,
      (response, start, end) =>
        response.writeHead(206, range(start, end, LARGE.length + 1)).end(LARGE.subarray(start, end)),
    ],
    [
      "about the range",
      /the requested range/,
      (response, start, end) =>
        response.writeHead(206, range(start + 1, end)).end(LARGE.subarray(start + 1, end)),
    ],
    [
      "and sends more",
      /longer than its range/,
      (response, start, end) => {
        response.writeHead(206, range(start, end));
        response.write(LARGE.subarray(start, end));
        response.end("more");
      },
    ],
    [
      "and sends less, each time",
      /connection ended after 0 of .* 3 times in a row/,
      (response, start, end) => response.writeHead(206, range(start, end)).end(),
    ],
    [
      "and sends a page",
      /sent a page/,
      (response) =>
        response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end("<html>Log in"),
    ],
    ["and ignores Range", /ignores Range/, (response) => response.writeHead(200).end(LARGE)],
    [
      "about where the file is",
      /the Hub keeps it, answered 404/,
      (response) => response.writeHead(404).end(),
    ],
    [
      "and redirects for ever",
      /more than 5 redirects/,
      (response) => response.writeHead(302, { location: "/again" }).end(),
    ],
    [
      "and redirects to a file",
      /redirect to something else/,
      (response) => response.writeHead(302, { location: "file:///etc/passwd" }).end(),
    ],
  ])("%s", async (_, message, badly) => {
    await start({ "x-Q4_0.gguf": LARGE });
    sends(badly);
    expect((await failure()).message).toMatch(message);
    expectNothingInstalled();
  });

  it("about the bytes: they are thrown away, and the next attempt begins anew", async () => {
    await start({ "x-Q4_0.gguf": LARGE });
    const wrong = LARGE.slice();
    wrong[2_000_000] ^= 1;
    sends((response, start, end) =>
      response.writeHead(206, range(start, end)).end(wrong.subarray(start, end)),
    );
    const error = await failure();
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toContain(`SHA-256 ${sha256(wrong)} and was deleted; allowed: ${sha256(LARGE)}`);
    expect(readdirSync(join(repo(), "blobs"))).toEqual([]);
    hub.intercept = () => false;
    await pull("hf:owner/name", options);
  });

  it("about a small file's bytes", async () => {
    // Not the same content twice: a file of the same hash would be taken from this disk, if it came first.
    await start({ "config.json": "{}", "tokenizer.json": "{ }", "model.safetensors": SMALL });
    hub.intercept = (request, response) => {
      if (!request.url!.endsWith("/config.json")) return false;
      answer(request, response, Buffer.from("[]"));
      return true;
    };
    expect((await failure()).message).toMatch(/config\.json: the downloaded file has the SHA-1/);
  });

  it("by other bytes where a whole file is sent again", async () => {
    const bytes = Buffer.from(LARGE.slice(0, 900_000));
    await start({ "x-Q4_0.gguf": bytes });
    let first = true;
    hub.intercept = (_, response, at) => {
      if (at !== "files") return false;
      response.writeHead(200, { "content-length": bytes.length });
      if (first) response.write(bytes.subarray(0, 700_000), () => setTimeout(() => response.destroy(), 50));
      else response.end(Buffer.concat([Buffer.alloc(100), bytes.subarray(100)]));
      first = false;
      return true;
    };
    // Those that were taken once are not taken anew: what is installed is what was hashed.
    const { path } = await pull("hf:owner/name", options);
    expect(Buffer.compare(readFileSync(path), bytes)).toBe(0);
  });

  it("as the file changes while it is downloaded", async () => {
    await start({ "x-Q4_0.gguf": LARGE });
    let requests = 0;
    hub.intercept = (request, response, at) => {
      if (at !== "files") return false;
      answer(request, response, LARGE, { etag: `"version ${requests++ >> 1}"` });
      return true;
    };
    expect((await failure()).message).toMatch(/it changed from version 0 to version 1/);
    hub.intercept = (request, _, at) => {
      if (at === "hub" && request.url!.includes("/resolve/"))
        hub.content.set("x-Q4_0.gguf", Buffer.from(SMALL));
      return false;
    };
    expect((await failure()).message).toMatch(/its hash is .* and was listed as|bytes and was listed/);
    expectNothingInstalled();
  });
});

describe("a hostile list of files", () => {
  const entry = (path: unknown, more: object = {}) => ({
    ...(entryOf("x", SMALL) as object),
    path,
    ...more,
  });
  it.each<[string, unknown, RegExp?]>([
    ["a path that leads out", entry("../../x-Q4_0.gguf")],
    ["a path that leads out further in", entry("a/../../x-Q4_0.gguf")],
    ["an absolute path", entry("/etc/x-Q4_0.gguf")],
    ["an empty path", entry("")],
    ["no path", entry(7)],
    ["a hash that is a path", entry("x-Q4_0.gguf", { lfs: { oid: "../../../x", size: 5 } })],
    ["a hash in capitals", entry("x-Q4_0.gguf", { lfs: { oid: sha256(SMALL).toUpperCase(), size: 5 } })],
    ["no hash", entry("x-Q4_0.gguf", { lfs: null, oid: undefined })],
    ["a negative size", entry("x-Q4_0.gguf", { lfs: { oid: sha256(SMALL), size: -5 } })],
    ["half a byte", entry("x-Q4_0.gguf", { lfs: { oid: sha256(SMALL), size: 0.5 } })],
    ["an endless file", entry("x-Q4_0.gguf", { lfs: { oid: sha256(SMALL), size: 1e300 } })],
    ["text", "x"],
  ])("%s", async (_, bad) => {
    await start({ "x-Q4_0.gguf": SMALL });
    hub.listed = (entries) => [...entries, bad];
    expect(await failure()).toBeInstanceOf(FormatError);
    expect(existsSync(repo())).toBe(false);
  });

  it("a path twice, no list, no JSON, another commit", async () => {
    await start({ "x-Q4_0.gguf": SMALL });
    hub.listed = (entries) => [...entries, ...entries];
    expect((await failure()).message).toMatch(/twice/);
    hub.listed = () => ({ error: "x" });
    expect((await failure()).message).toMatch(/an array/);
    hub.intercept = (_, response) => Boolean(response.end("<html>"));
    expect((await failure()).message).toMatch(/invalid JSON/);
    hub.intercept = (_, response) => Boolean(response.end('{"sha": "../../x"}'));
    expect((await failure()).message).toMatch(/40 hex digits/);
  });

  it("pages without end", async () => {
    await start({ "x-Q4_0.gguf": SMALL });
    hub.intercept = (request, response) => {
      if (!request.url!.includes("/tree/")) return false;
      response.writeHead(200, { link: `<${hub.endpoint}${request.url}>; rel="next"` }).end("[]");
      return true;
    };
    expect((await failure()).message).toMatch(/more than 200 pages/);
  });

  it("names that not every file system takes are left out", async () => {
    await start({ "x-Q4_0.gguf": SMALL });
    hub.listed = (entries) => [
      ...entries,
      entry("runs/10:30.gguf"),
      entry("a\\b.gguf"),
      { type: "directory", path: "a" },
    ];
    expect((await pull("hf:owner/name", options)).files.length).toBe(1);
  });
});

describe("a stop", () => {
  /** Aborts when so many bytes have come. */
  async function stopAfter(bytes: number): Promise<void> {
    const controller = new AbortController();
    const stopped = pull("hf:owner/name", {
      ...options,
      signal: controller.signal,
      onProgress: (now) => {
        if (now.bytes >= bytes) controller.abort();
      },
    });
    await expect(stopped).rejects.toThrow(AbortedError);
  }

  it("keeps what came; the next call asks only for the rest", async () => {
    await start({ "x-Q4_0.gguf": LARGE });
    await stopAfter(3_000_000);
    expectNothingInstalled();
    expect(readdirSync(join(cache, ".locks/models--owner--name"))).toEqual([]);
    const journal = JSON.parse(
      readFileSync(join(repo(), "blobs", `${sha256(LARGE)}.nibble-journal`), "utf8"),
    );
    const kept = journal.done.reduce((sum: number, [start, end]: number[]) => sum + end - start, 0);
    expect(kept).toBeGreaterThanOrEqual(3_000_000);

    const before = hub.files.requests.length;
    const first: PullProgress[] = [];
    const { path } = await pull("hf:owner/name", { ...options, onProgress: (now) => first.push(now) });
    expect(first[0].bytes).toBe(kept);
    const ranges = rangesOf(hub.files.requests.slice(before));
    const again = ranges.reduce((sum, at, i) => (i % 2 === 0 ? sum - at : sum + at + 1), 0);
    expect(again).toBe(LARGE.length - kept);
    expect(Buffer.compare(readFileSync(path), LARGE)).toBe(0);
    expect(readdirSync(join(repo(), "blobs"))).toEqual([sha256(LARGE)]);
  });

  it("and bytes that went bad meanwhile: all is downloaded once more", async () => {
    await start({ "x-Q4_0.gguf": LARGE });
    await stopAfter(3_000_000);
    const part = await open(join(repo(), "blobs", `${sha256(LARGE)}.nibble-part`), "r+");
    await part.write(new Uint8Array(100), 0, 100, 10);
    await part.close();
    const { path } = await pull("hf:owner/name", options);
    expect(Buffer.compare(readFileSync(path), LARGE)).toBe(0);
  });

  it.each(["", "{", '{"bytes": 1, "done": []}', '{"bytes": 6291556, "done": [[5, 1]]}', "[]", "null"])(
    "and a journal that is not one (%j): all is downloaded once more",
    async (journal) => {
      await start({ "x-Q4_0.gguf": SMALL });
      await mkdir(join(repo(), "blobs"), { recursive: true });
      await writeFile(join(repo(), "blobs", `${sha256(SMALL)}.nibble-part`), new Uint8Array(SMALL.length));
      await writeFile(join(repo(), "blobs", `${sha256(SMALL)}.nibble-journal`), journal);
      const { path } = await pull("hf:owner/name", options);
      expect(Buffer.compare(readFileSync(path), SMALL)).toBe(0);
    },
  );

  it("does not wait for the Hub's limits", async () => {
    await start({ "x-Q4_0.gguf": SMALL });
    hub.intercept = (_, response) => Boolean(response.writeHead(429, { "retry-after": "200" }).end());
    const controller = new AbortController();
    const stopped = pull("hf:owner/name", { ...options, signal: controller.signal });
    setTimeout(() => controller.abort(), 100);
    await expect(stopped).rejects.toThrow(AbortedError);
  });
});

describe("a full disk", () => {
  it("is seen before the first byte where it can be", async () => {
    await start({ "x-Q4_0.gguf": SMALL });
    hub.listed = () =>
      [entryOf("x-Q4_0.gguf", SMALL)].map((entry) => ({
        ...entry,
        lfs: { oid: sha256(SMALL), size: 2 ** 52 },
      }));
    const error = await failure();
    expect(error.message).toMatch(
      /needs 4,294,967,296 MiB more on the disk of .*, which has [\d,]+ MiB free/,
    );
    expect(hub.files.requests).toEqual([]);
  });

  it.each(["ENOSPC", "EDQUOT"])("in the middle (%s) keeps what came", async (code) => {
    await start({ "x-Q4_0.gguf": LARGE });
    const handle = await open(join(cache, "probe"), "w");
    const prototype = Object.getPrototypeOf(handle);
    await handle.close();
    const { write } = prototype;
    let written = 0;
    vi.spyOn(prototype, "write").mockImplementation(function (this: unknown, ...args: unknown[]) {
      written += args[2] as number;
      if (written > 2_000_000) return Promise.reject(Object.assign(new Error("no space"), { code }));
      return write.apply(this, args);
    });
    const error = await failure();
    expect(error).toMatchObject({ code: "io", message: expect.stringMatching(/x|disk/) });
    expect(error.message).toMatch(/nibble-part: .*(the disk is full|disk quota).*pull again/);
    expectNothingInstalled();
    vi.restoreAllMocks();
    const first: PullProgress[] = [];
    await pull("hf:owner/name", { ...options, onProgress: (now) => first.push(now) });
    expect(first[0].bytes).toBeGreaterThan(1_000_000);
  });

  it("or a folder that nobody may write to is one error", async () => {
    await start({ "x-Q4_0.gguf": SMALL });
    await writeFile(repo(), "a file");
    expect((await failure()).code).toBe("io");
  });
});

describe("several at once", () => {
  it("in one process download a file once", async () => {
    await start({ "x-Q4_0.gguf": LARGE });
    const states = new Set<string>();
    const all = await Promise.all(
      [1, 2, 3].map(() =>
        pull("hf:owner/name", { ...options, onProgress: ({ state }) => states.add(state) }),
      ),
    );
    expect(new Set(all.map(({ path }) => path)).size).toBe(1);
    expect(rangesOf(hub.files.requests).length).toBe(14);
    expect(states).toContain("waiting");
  });
});

describe("offline", () => {
  it("uses what is there and says what is not", async () => {
    await start({ "x-Q4_0.gguf": SMALL, "x-Q8_0.gguf": SMALL.slice(1) });
    const offline = { offline: true };
    expect((await failure("hf:owner/name", offline)).message).toMatch(/is not in .*models--owner--name/);
    await pull("hf:owner/name:Q8_0", options);
    expect((await pull("hf:owner/name:Q8_0", { ...options, offline: true })).cached).toBe(true);
    // What is there, as nothing else was asked for.
    expect((await pull("hf:owner/name", { ...options, offline: true })).path).toBe(snapshot("x-Q8_0.gguf"));
    expect(await failure("hf:owner/name:Q4_0", offline)).toBeInstanceOf(ArgumentError);
    expect(await failure("hf:owner/name@other", offline)).toMatchObject({ code: "io" });
  });

  it("is a way out that an unreachable Hub names", async () => {
    await start({ "x-Q8_0.gguf": SMALL });
    await pull("hf:owner/name", options);
    await hub.close();
    expect((await pull("hf:owner/name", options)).cached).toBe(true);
    expect((await failure("hf:owner/name", { refresh: true })).message).toMatch(
      /ECONNREFUSED.*3 times in a row\. With --offline or HF_HUB_OFFLINE=1/,
    );
    expect((await failure("hf:other/name")).message).not.toContain("--offline");
    vi.stubEnv("HTTPS_PROXY", "http://proxy:8080");
    expect((await failure("hf:other/name")).message).toMatch(/HTTPS_PROXY is set.*NODE_USE_ENV_PROXY=1$/);
    vi.unstubAllEnvs();
  });
});
