/** The page's files as the server gives them: only what lies in their folders, whole, in parts, or not again. */
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openPage, type Page } from "../../src/app/api/page.ts";
import { httpServer } from "../../src/app/http-server.ts";

/** Longer than what is read at once. */
const LONG = Array.from({ length: 40_000 }, (_, i) => `${i} `).join("");
const LARGE_BYTES = 2 ** 25;

let folder: string;
let page: Page;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "nibble-page-"));
  mkdirSync(join(folder, "page/assets"), { recursive: true });
  mkdirSync(join(folder, "models"));
  writeFileSync(join(folder, "secret.txt"), "secret");
  writeFileSync(join(folder, "page/index.html"), "<p>0123456789</p>");
  writeFileSync(join(folder, "page/assets/a b.js"), "1");
  writeFileSync(join(folder, "models/m.gguf"), "GGUF");
  writeFileSync(join(folder, "page/empty.txt"), "");
  writeFileSync(join(folder, "page/gone.txt"), "gone");
  writeFileSync(join(folder, "page/long.txt"), LONG);
  writeFileSync(join(folder, "models/large.gguf"), "");
  truncateSync(join(folder, "models/large.gguf"), LARGE_BYTES);
  page = await openPage(join(folder, "page"), join(folder, "models"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const get = (path: string, headers: Record<string, string> = {}) =>
  page(new Request(`http://localhost${path}`, { headers }));

describe("files", () => {
  it("have types and a policy", async () => {
    const index = await get("/");
    expect(await index?.text()).toBe("<p>0123456789</p>");
    expect(Object.fromEntries(index!.headers)).toMatchObject({
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": expect.stringContaining("default-src 'self'"),
      "content-length": "17",
    });
    expect((await get("/assets/a%20b.js"))?.headers.get("content-type")).toContain("text/javascript");
    expect(await (await get("/models/m.gguf"))?.text()).toBe("GGUF");
  });

  it.each([
    "/secret.txt",
    "/../secret.txt",
    "/%2e%2e/secret.txt",
    "/..%2fsecret.txt",
    "/assets/..%5c..%5csecret.txt",
    "/models/../secret.txt",
    "/models/%2e%2e%2fsecret.txt",
    "/assets",
    "/assets/",
    "//secret.txt",
    "/index.html%00.js",
  ])("%s is none of them", async (path) => {
    expect(await get(path)).toBe(null);
  });

  it("that are known are not sent again", async () => {
    const etag = (await get("/index.html"))?.headers.get("etag") ?? "";
    const again = await get("/index.html", { "if-none-match": `"other", ${etag}` });
    expect([again?.status, await again?.text()]).toEqual([304, ""]);
    expect((await get("/index.html", { "if-none-match": '"other"' }))?.status).toBe(200);
  });

  it.each<[range: string, status: number, text: string, content: string | null]>([
    ["bytes=3-5", 206, "012", "bytes 3-5/17"],
    ["bytes=13-", 206, "</p>", "bytes 13-16/17"],
    ["bytes=-4", 206, "</p>", "bytes 13-16/17"],
    ["bytes=0-999", 206, "<p>0123456789</p>", "bytes 0-16/17"],
    ["bytes=17-", 416, "", "bytes */17"],
    ["bytes=5-3", 416, "", "bytes */17"],
    ["bytes=-", 200, "<p>0123456789</p>", null],
    ["lines=1-2", 200, "<p>0123456789</p>", null],
  ])("in the range %s", async (range, status, text, content) => {
    const response = await get("/index.html", { range });
    expect(response?.status).toBe(status);
    expect(await response?.text()).toBe(text);
    expect(response?.headers.get("content-range")).toBe(content);
  });

  it("longer than a piece are whole, and so are their ranges", async () => {
    expect(await (await get("/long.txt"))?.text()).toBe(LONG);
    const part = await get("/long.txt", { range: "bytes=1000-200000" });
    expect(await part?.text()).toBe(LONG.slice(1000, 200_001));
    expect(await (await get("/empty.txt"))?.text()).toBe("");
  });

  it("are read when their answer is, so one that is not read has opened nothing", async () => {
    const response = await get("/gone.txt");
    rmSync(join(folder, "page/gone.txt"));
    await expect(response?.text()).rejects.toThrow("ENOENT");
    expect((await get("/gone.txt"))?.status).toBe(200);
  });

  it("that a client asks for ahead and does not read do not fill the memory", async () => {
    const server = httpServer(
      async (request) => (await page(request)) ?? new Response(null, { status: 404 }),
    );
    let sent = () => 0;
    server.on("connection", (other: Socket) => {
      sent = () => other.bytesWritten;
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const before = process.memoryUsage().arrayBuffers;
    const { port } = server.address() as AddressInfo;
    const socket = connect(port, "127.0.0.1");
    socket.write("GET /models/large.gguf HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(60));
    // Until the system's buffers are full.
    for (let last = -1; sent() === 0 || sent() > last; await sleep(50)) last = sent();
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(LARGE_BYTES / 2);
    socket.destroy();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  it("that were not built are replaced by a text", async () => {
    const none = await openPage(join(folder, "nothing"), join(folder, "nothing"));
    const response = await none(new Request("http://localhost/"));
    expect(await response?.text()).toContain("the chat page was not built");
    expect(await none(new Request("http://localhost/a.js"))).toBe(null);
  });
});
