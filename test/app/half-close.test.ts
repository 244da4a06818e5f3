/** Clients that close their sending side and wait, and clients that are gone: over raw sockets, without a model. */
import type { Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, it } from "vitest";
import { eventResponse } from "../../src/app/api/events.ts";
import { httpServer } from "../../src/app/http-server.ts";

let server: Server;
let started = 0;
let aborted = 0;
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

/** Answers after `ms`, whole or as events. */
async function serve(ms: number): Promise<void> {
  started = 0;
  aborted = 0;
  const work = async (signal: AbortSignal) => {
    started++;
    signal.addEventListener("abort", () => aborted++);
    await sleep(ms, undefined, { signal }).catch(() => {});
  };
  server = httpServer(async (request) => {
    const { pathname } = new URL(request.url);
    if (pathname !== "/events") {
      await work(request.signal);
      return new Response(`<${pathname}>`);
    }
    const gone = new AbortController();
    return eventResponse({
      async write({ send }) {
        await send("first");
        await work(gone.signal);
        await send("last");
      },
      onGone: () => gone.abort(),
      describe: () => "failed",
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
}

const get = (path: string, version = "1.1") => `GET ${path} HTTP/${version}\r\nHost: localhost\r\n\r\n`;

/** All that comes after this text and the end of what is sent. */
function halfClosed(text: string): Promise<string> {
  const { port } = server.address() as AddressInfo;
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true }, () => socket.end(text));
    let found = "";
    socket.on("data", (data) => {
      found += data;
    });
    socket.on("close", () => resolve(found));
  });
}

it("one that waits gets its answer, whole and as events, of a request or of several", async () => {
  await serve(150);
  const [whole, events, several] = await Promise.all([
    halfClosed(get("/a")),
    halfClosed(get("/events")),
    halfClosed(get("/b") + get("/c")),
  ]);
  expect(whole).toMatch(/^(HTTP\/1\.1 102 Processing\r\n\r\n)+HTTP\/1\.1 200 OK\r\n.*<\/a>$/s);
  expect(events).toMatch(/data: "first"\n\n.*data: "last"\n\n.*data: \[DONE\]/s);
  expect(several).toMatch(/<\/b>.*<\/c>$/s);
  expect(aborted).toBe(0);
});

it("one that is gone ends what is done for it", async () => {
  await serve(60_000);
  const { port } = server.address() as AddressInfo;
  const paths = ["/a", "/events"];
  const sockets = paths.map((path) => {
    const socket: Socket = connect(port, "127.0.0.1", () => socket.write(get(path)));
    return socket;
  });
  await expect.poll(() => started).toBe(2);
  for (const socket of sockets) socket.destroy();
  await expect.poll(() => aborted, { timeout: 3000 }).toBe(2);
});

it("of HTTP/1.0 one is answered that is answered soon, else it counts as gone", async () => {
  await serve(10);
  expect(await halfClosed(get("/a", "1.0"))).toMatch(/<\/a>$/);
  server.close();
  await serve(60_000);
  expect(await halfClosed(get("/a", "1.0"))).toBe("");
  await expect.poll(() => aborted).toBe(1);
});
