/** Files over HTTP: from servers that behave, and from servers that lie, drop, stall and change the file meanwhile. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { blobFolder, blobSource } from "../../src/format/blob-source.ts";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { ggufCheckpoint, safetensorsCheckpoint } from "../../src/format/checkpoints.ts";
import { AbortedError, ArgumentError, FormatError, NibbleError } from "../../src/format/errors.ts";
import { readJson } from "../../src/format/folder.ts";
import { type HttpOptions, httpFolder, httpSource } from "../../src/format/http-source.ts";
import { PAGE_BYTES, pagedSource } from "../../src/format/paged-source.ts";
import type { Source } from "../../src/format/source.ts";
import { rowBytes } from "../../src/format/tensor.ts";
import { randomBytes } from "../device/random-tensor.ts";
import { answer, asked, type Handler, type Server, serve } from "./http-server.ts";

/** Five pages and a bit. */
const BYTES = Uint8Array.from(randomBytes("f32", 1, (5 * PAGE_BYTES) / 4 + 25, 1));
const QUICK: HttpOptions = { backoffMs: 1, stallMs: 2000 };

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
});

async function server(handler: Handler): Promise<Server> {
  const made = await serve(handler);
  open.push(made);
  return made;
}

async function source(handler: Handler, options: HttpOptions = QUICK): Promise<[Source, Server]> {
  const { url, ...rest } = await server(handler);
  const made = await httpSource(`${url}model.gguf`, options);
  open.push(made);
  return [made, { url, ...rest }];
}

const honest: Handler = (request, response) => answer(request, response, BYTES);

async function bytesOf(from: Source, offset: number, length: number): Promise<Uint8Array> {
  const into = new Uint8Array(length);
  await from.read(offset, into);
  return into;
}

/** Opens behind `handler`, reads beyond the first page, and gives the error. */
async function failure(handler: Handler, options: HttpOptions = QUICK): Promise<NibbleError> {
  const { url } = await server(handler);
  const work = async () => {
    const made = await httpSource(`${url}model.gguf`, options);
    open.push(made);
    await bytesOf(made, PAGE_BYTES + 10, 100);
  };
  return work().then(
    () => Promise.reject(new Error("it was read")),
    (error: NibbleError) => error,
  );
}

/** Misbehaves in the given way from the `first`th request on, `times` times. */
function sometimes(first: number, times: number, badly: Handler): Handler {
  let count = 0;
  return (request, response) => {
    const now = count++;
    (now >= first && now < first + times ? badly : honest)(request, response);
  };
}

describe("a server with ranges", () => {
  it("tells the size with the first page, in one request", async () => {
    const [file, { requests, url }] = await source(honest);
    expect([file.size, file.name]).toEqual([BYTES.length, `${url}model.gguf`]);
    expect(await bytesOf(file, 5, 100)).toEqual(BYTES.slice(5, 105));
    expect(requests).toEqual([`GET /model.gguf bytes=0-${PAGE_BYTES - 1}`]);
  });

  it("gives any range", async () => {
    const [file] = await source(honest);
    const range = fc
      .tuple(fc.nat(BYTES.length), fc.nat(BYTES.length))
      .map(([a, b]) => [a, b].sort((x, y) => x - y));
    await fc.assert(
      fc.asyncProperty(range, async ([start, end]) => {
        const found = await bytesOf(file, start, end - start);
        expect(Buffer.compare(found, BYTES.subarray(start, end))).toBe(0);
      }),
      { numRuns: 40 },
    );
  });

  it("is asked once for a page that several read at once, and once for several pages", async () => {
    const [file, { requests }] = await source(honest);
    await Promise.all([1, 2, 3].map((i) => bytesOf(file, 3 * PAGE_BYTES + i, 90)));
    await bytesOf(file, 1, BYTES.length - 1);
    expect(requests.slice(1)).toEqual([
      `GET /model.gguf bytes=${3 * PAGE_BYTES}-${4 * PAGE_BYTES - 1}`,
      // Ahead of the second of the three.
      `GET /model.gguf bytes=${4 * PAGE_BYTES}-${BYTES.length - 1}`,
      `GET /model.gguf bytes=${PAGE_BYTES}-${3 * PAGE_BYTES - 1}`,
    ]);
  });

  it("may give less than it was asked for, redirect, and send no tag", async () => {
    const [file] = await source((request, response) => {
      if (request.url === "/model.gguf") {
        response.writeHead(302, { location: "/elsewhere?signature=1" }).end();
        return;
      }
      const { start, end } = asked(request, BYTES.length)!;
      const last = Math.min(end, start + 400_000);
      const headers = { "content-range": `bytes ${start}-${last - 1}/${BYTES.length}` };
      response.writeHead(206, headers).end(BYTES.subarray(start, last));
    });
    expect(Buffer.compare(await bytesOf(file, 3, BYTES.length - 3), BYTES.subarray(3))).toBe(0);
  });

  it("may hide Content-Range from a page of another origin: the size comes from HEAD", async () => {
    const hides: Handler = (request, response) => {
      if (request.method === "HEAD") return answer(request, response, BYTES);
      const { start, end } = asked(request, BYTES.length)!;
      response.writeHead(206).end(BYTES.subarray(start, end));
    };
    const [file, { requests }] = await source(hides);
    expect(file.size).toBe(BYTES.length);
    expect(await bytesOf(file, BYTES.length - 9, 9)).toEqual(BYTES.slice(-9));
    expect(requests.filter((line) => line.startsWith("HEAD")).length).toBe(1);
  });

  it("may fail at HEAD for a while, or tell no size at all", async () => {
    const hides =
      (head: Handler): Handler =>
      (request, response) =>
        request.method === "HEAD"
          ? head(request, response)
          : response.writeHead(206).end(BYTES.subarray(0, 9));
    const busy = await failure(hides((_, response) => response.writeHead(503).end()));
    expect(busy.message).toMatch(/answered 503 to HEAD, 5 times/);
    const mute = await failure(hides((_, response) => response.writeHead(200).end()));
    expect(mute).toBeInstanceOf(FormatError);
    expect(mute.message).toMatch(/without a size/);
  });

  it("has an empty file", async () => {
    const [file] = await source((request, response) => answer(request, response, new Uint8Array(0)));
    expect(file.size).toBe(0);
    await expect(bytesOf(file, 0, 1)).rejects.toThrow(FormatError);
  });

  it("gets the headers that it was given, and the query, which no error shows", async () => {
    const seen: unknown[] = [];
    const { url } = await server((request, response) => {
      seen.push(request.headers.authorization, request.url);
      response.writeHead(403).end();
    });
    const headers = { authorization: "Bearer secret" };
    const error = await httpSource(`${url}model.gguf?key=secret`, { headers }).catch((found) => found);
    expect(seen).toEqual(["Bearer secret", "/model.gguf?key=secret"]);
    expect(error.message).toBe(`${url}model.gguf: no access (403). Does it need an authorization header?`);
  });
});

describe("a model behind HTTP", () => {
  const needle = readFileSync(new URL("../../models/needle-14m/needle-14m-Q8_0.gguf", import.meta.url));

  it("is read like the file, its header in a few requests", async () => {
    const [file, { requests }] = await source((request, response) => answer(request, response, needle));
    const checkpoint = await ggufCheckpoint(file);
    expect(requests.length).toBeLessThanOrEqual(3);
    const local = await ggufCheckpoint(bufferSource("needle.gguf", needle));
    expect(checkpoint.metadata).toEqual(local.metadata);
    for (const [name, { rows, type, cols, readRows }] of local.tensors) {
      const [here, there] = [0, 1].map(() => new Uint8Array(rowBytes(type, cols)));
      await readRows(rows - 1, 1, here);
      await checkpoint.tensors.get(name)!.readRows(rows - 1, 1, there);
      expect(there).toEqual(here);
    }
    // A page of 1 MiB holds many of its tensors.
    expect(requests.length).toBeLessThanOrEqual(20);
  });

  it("may be a folder", async () => {
    const { url } = await server((request, response) => {
      if (request.url === "/m%20odel/config.json?v=1") answer(request, response, Buffer.from('{"x": [1]}'));
      else response.writeHead(404).end();
    });
    const folder = httpFolder(`${url}m%20odel?v=1`, QUICK);
    expect(await readJson(folder, "config.json")).toEqual({ x: [1] });
    expect(await readJson(folder, "tokenizer.json")).toBeUndefined();
    await expect(safetensorsCheckpoint(folder)).rejects.toThrow(NibbleError);
  });
});

describe("a server that does not do its part", () => {
  it.each<[string, RegExp, Handler]>([
    ["ignores Range", /ignores Range/, (_, response) => response.writeHead(200).end(BYTES)],
    [
      "sends its page for a missing file",
      /sent a page \(text\/html\)/,
      (_, response) => response.writeHead(200, { "content-type": "text/html" }).end("<html>"),
    ],
    ["has no such file", /no such file \(404\)/, (_, response) => response.writeHead(404).end()],
    ["is a teapot", /answered 418/, (_, response) => response.writeHead(418).end()],
    ["fails for good", /answered 500, 5 times in a row/, (_, response) => response.writeHead(500).end()],
    ["drops every connection", /5 times in a row/, (request) => request.socket.destroy()],
  ])("%s", async (_, message, handler) => {
    for (const first of [0, 1]) {
      const error = await failure(sometimes(first, 99, handler));
      expect(error).toBeInstanceOf(NibbleError);
      expect(error).toMatchObject({ code: "io", message: expect.stringMatching(message) });
      expect(error.message).toContain("/model.gguf: ");
    }
  });

  it("that ignores Range does not make us take the whole file", async () => {
    let closed: Promise<unknown> | null = null;
    const error = await failure((_, response) => {
      response.writeHead(200, { "content-length": 2 ** 40 });
      response.write(BYTES);
      closed = new Promise((done) => response.on("close", done));
    });
    expect(error.message).toMatch(/ignores Range/);
    await closed;
  });

  it("is not there", async () => {
    const { url, close } = await serve(honest);
    await close();
    await expect(httpSource(url, { ...QUICK, attempts: 2 })).rejects.toThrow(
      /ECONNREFUSED.*2 times in a row/,
    );
  });

  it.each<[string, RegExp, string]>([
    ["another range", /bytes 7 to/, `bytes 7-${PAGE_BYTES}/${BYTES.length}`],
    ["more than was asked for", /a response with bytes/, `bytes 0-${PAGE_BYTES}/${BYTES.length}`],
    ["a range past the end", /Content-Range/, `bytes 0-100/50`],
    ["a range that ends before it starts", /Content-Range/, `bytes 5-4/${BYTES.length}`],
    ["a size beyond all numbers", /Content-Range/, `bytes 0-9/${"9".repeat(40)}`],
    ["another unit", /Content-Range/, "lines 0-9/10"],
  ])("claims %s", async (_, message, range) => {
    const error = await failure((_, response) =>
      response.writeHead(206, { "content-range": range }).end(BYTES.subarray(0, PAGE_BYTES)),
    );
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toMatch(message);
  });

  it("sends more than it announced", async () => {
    const error = await failure((request, response) => {
      const { start, end } = asked(request, BYTES.length)!;
      response.writeHead(206, { "content-range": `bytes ${start}-${end - 1}/${BYTES.length}` });
      response.end(BYTES.subarray(start, end + 1));
    });
    expect(error.message).toMatch(/a response longer than its range/);
  });
});

describe("a connection", () => {
  /** Sends the first half of what was asked for, then ends the connection. */
  const half =
    (ends: (response: Parameters<Handler>[1]) => void): Handler =>
    (request, response) => {
      const { start, end } = asked(request, BYTES.length)!;
      response.writeHead(206, { "content-range": `bytes ${start}-${end - 1}/${BYTES.length}` });
      response.write(BYTES.subarray(start, (start + end) >> 1), () => setTimeout(ends, 20, response));
    };

  it.each([
    ["is cut", half((response) => response.destroy())],
    ["ends early", half((response) => response.end())],
    ["goes silent", half(() => {})],
  ])("that %s is taken up where it stopped", async (_, handler) => {
    const [file, { requests }] = await source(sometimes(1, 1, handler), { ...QUICK, stallMs: 200 });
    expect(Buffer.compare(await bytesOf(file, 0, BYTES.length), BYTES)).toBe(0);
    expect(requests.length).toBe(3);
    expect(requests[2]).toMatch(/bytes=[1-9]\d+-/);
  });

  it("that is cut again and again is taken up as long as there is progress, and given up when there is none", async () => {
    const cut = half((response) => response.destroy());
    const [file] = await source(sometimes(1, 2, cut), { ...QUICK, attempts: 2 });
    expect(Buffer.compare(await bytesOf(file, 0, BYTES.length), BYTES)).toBe(0);
    const silent = await failure(
      sometimes(1, 99, () => {}),
      { ...QUICK, stallMs: 30, attempts: 2 },
    );
    expect(silent).toMatchObject({
      code: "io",
      message: expect.stringContaining("no data for 30 ms, 2 times"),
    });
  });

  it("to a server that is overloaded is tried again", async () => {
    const busy: Handler = (_, response) => response.writeHead(503, { "retry-after": "0" }).end();
    const [file] = await source(sometimes(0, 2, busy));
    expect(file.size).toBe(BYTES.length);
  });
});

describe("a file that changes", () => {
  const changed = new Uint8Array(BYTES.length + 4);
  it.each<[string, RegExp, Handler, Handler]>([
    [
      "its tag",
      /it changed from "a" to "b"/,
      (request, response) => answer(request, response, BYTES, { etag: '"a"' }),
      (request, response) => answer(request, response, BYTES, { etag: 'W/"b"' }),
    ],
    [
      "its date",
      /it changed from Mon.* to Tue/,
      (request, response) => answer(request, response, BYTES, { "last-modified": "Mon, 1 Jan 2024" }),
      (request, response) => answer(request, response, BYTES, { "last-modified": "Tue, 2 Jan 2024" }),
    ],
    [
      "its size",
      /it changed from \d+ to \d+ bytes/,
      honest,
      (request, response) => answer(request, response, changed),
    ],
    ["to nothing", /shorter/, honest, (request, response) => answer(request, response, new Uint8Array(9))],
  ])("%s", async (_, message, before, after) => {
    let requests = 0;
    const error = await failure((request, response) => (requests++ ? after : before)(request, response));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toMatch(message);
  });
});

describe("stopping", () => {
  /** Opens, then hangs. */
  const hangs = () => sometimes(1, 99, () => {});

  it("by a signal ends what is under way and all that follows", async () => {
    const controller = new AbortController();
    const [file] = await source(hangs(), { signal: controller.signal });
    const reads = [bytesOf(file, PAGE_BYTES, 10), bytesOf(file, 0, BYTES.length)];
    setTimeout(() => controller.abort(), 20);
    for (const read of reads) await expect(read).rejects.toThrow(AbortedError);
    await expect(bytesOf(file, 2 * PAGE_BYTES, 10)).rejects.toThrow(AbortedError);
    await expect(httpSource("http://127.0.0.1:1/", { signal: AbortSignal.abort() })).rejects.toThrow(
      AbortedError,
    );
  });

  it("by a signal does not wait for the next attempt", async () => {
    const controller = new AbortController();
    const { url } = await server((request) => request.socket.destroy());
    const opened = httpSource(url, { signal: controller.signal, backoffMs: 1e6 });
    setTimeout(() => controller.abort(), 50);
    await expect(opened).rejects.toThrow(AbortedError);
  });

  it("by closing", async () => {
    const [file] = await source(hangs());
    const read = bytesOf(file, 0, BYTES.length);
    setTimeout(() => file.close(), 20);
    await expect(read).rejects.toThrow(/it is closed/);
    await expect(bytesOf(file, PAGE_BYTES, 10)).rejects.toThrow(/it is closed/);
  });
});

describe("URLs", () => {
  it.each(["models/x.gguf", "file:///x.gguf", "data:text/plain,x", "http://me:secret@host/x"])(
    "%s is refused",
    async (url) => {
      const error = await httpSource(url).catch((found) => found);
      expect(error).toBeInstanceOf(ArgumentError);
      expect(error.message).not.toContain("me:secret");
    },
  );
});

describe("pages", () => {
  const PAGES = 41;
  /** Its requests as "first page..page after the last". */
  function recorded(read: Source["read"] = async () => {}): [Source, string[]] {
    const requests: string[] = [];
    const size = PAGES * PAGE_BYTES - 7;
    const inner: Source = {
      name: "pages",
      size,
      read(offset, into) {
        requests.push(`${offset / PAGE_BYTES}..${Math.ceil((offset + into.length) / PAGE_BYTES)}`);
        return read(offset, into);
      },
      async close() {},
    };
    return [pagedSource(inner), requests];
  }

  it("are under way before who reads on needs them, and fetched once", async () => {
    const [file, requests] = recorded();
    await bytesOf(file, 0, 8 * PAGE_BYTES);
    expect(requests).toEqual(["0..8", "8..16", "16..24"]);
    await bytesOf(file, 8 * PAGE_BYTES + 100, 8 * PAGE_BYTES);
    expect(requests.slice(3)).toEqual(["24..32"]);
    await bytesOf(file, 16 * PAGE_BYTES + 100, file.size - 16 * PAGE_BYTES - 100);
    expect(requests.slice(4)).toEqual(["32..40", "40..41"]);
  });

  it("are not fetched ahead for who reads here and there", async () => {
    const [file, requests] = recorded();
    for (const page of [20, 3, 30]) await bytesOf(file, page * PAGE_BYTES, 10);
    expect(requests).toEqual(["20..21", "3..4", "30..31"]);
  });

  it("are fetched again after a failure, and not kept for ever", async () => {
    let fails = true;
    const [file, requests] = recorded(async () => {
      if (fails) throw new FormatError("pages", "no");
    });
    await expect(bytesOf(file, 2 * PAGE_BYTES, 1)).rejects.toThrow(FormatError);
    fails = false;
    await bytesOf(file, 2 * PAGE_BYTES, 1);
    await bytesOf(file, 0, file.size);
    await bytesOf(file, 2 * PAGE_BYTES, 1);
    expect(requests.filter((pages) => pages === "2..3").length).toBe(3);
  });

  it("give any range, whatever was read before", async () => {
    const whole = Uint8Array.from({ length: PAGES * PAGE_BYTES - 7 }, (_, i) => (i * 31 + (i >> 12)) & 255);
    const [file] = recorded(async (offset, into) => into.set(whole.subarray(offset, offset + into.length)));
    const range = fc.tuple(fc.nat(whole.length), fc.nat(12 * PAGE_BYTES));
    await fc.assert(
      fc.asyncProperty(range, async ([start, length]) => {
        const end = Math.min(start + length, whole.length);
        const found = await bytesOf(file, start, end - start);
        expect(Buffer.compare(found, whole.subarray(start, end))).toBe(0);
      }),
      { numRuns: 12 },
    );
  });
});

describe("blobSource", () => {
  it("reads a File by ranges", async () => {
    const file = blobSource(new File([BYTES], "model.gguf"));
    open.push(file);
    expect([file.name, file.size]).toEqual(["model.gguf", BYTES.length]);
    expect(await bytesOf(file, PAGE_BYTES - 3, 6)).toEqual(BYTES.slice(PAGE_BYTES - 3, PAGE_BYTES + 3));
    expect(Buffer.compare(await bytesOf(file, 1, BYTES.length - 1), BYTES.subarray(1))).toBe(0);
    await expect(bytesOf(file, BYTES.length, 1)).rejects.toThrow(FormatError);
  });

  it("says so when the file behind it is gone", async () => {
    const blob = new Blob([BYTES]);
    blob.slice = () => ({ arrayBuffer: () => Promise.reject(new Error("NotReadable")) }) as unknown as Blob;
    await expect(bytesOf(blobSource(blob), 0, 9)).rejects.toThrow(
      /a blob: .*was the file changed or removed/,
    );
  });

  it("has the files beside it", async () => {
    const folder = blobFolder([new File(['{"a":1}'], "config.json")]);
    expect(await readJson(folder, "config.json")).toEqual({ a: 1 });
    expect(await readJson(folder, "none.json")).toBeUndefined();
  });
});
