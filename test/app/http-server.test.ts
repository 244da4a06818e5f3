/** Connections by raw sockets, with short times: late requests, clients that keep their side open, bounds, requests ahead. */
import type { Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { type HttpBounds, httpServer, networkOf } from "../../src/app/http-server.ts";

let server: Server;
const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server?.closeAllConnections();
  server?.close();
});

type Api = (request: Request) => Promise<Response>;
const hello: Api = async () => new Response("hello");

async function serve(bounds: Partial<HttpBounds>, api = hello): Promise<void> {
  server = httpServer(api, { checkMs: 5, lingerMs: 20, ...bounds });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
}

interface Client {
  readonly socket: Socket;
  /** All that came. */
  text: string;
  /** The server has closed its side, or all. */
  readonly closed: Promise<void>;
}

/** Keeps its side open whatever the server does. */
function client(send: string, isReading = true): Client {
  const { port } = server.address() as AddressInfo;
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  sockets.push(socket);
  const found: Client = {
    socket,
    text: "",
    closed: new Promise((resolve) => {
      socket.once("end", resolve);
      socket.once("close", () => resolve());
    }),
  };
  socket.on("error", () => {});
  if (isReading)
    socket.on("data", (data) => {
      found.text += data;
    });
  socket.write(send);
  return found;
}

const open = () => new Promise<number>((resolve) => server.getConnections((_, count) => resolve(count)));
async function until(isDone: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 400 && !(await isDone()); i++) await sleep(5);
  expect(await isDone()).toBe(true);
}

const GET = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

describe("a request that does not come in time", () => {
  it.each([
    ["nothing", ""],
    ["half of its headers", "GET / HTTP/1.1\r\nHost: localhost\r\n"],
    ["half of its body", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc"],
  ])("%s: is told, and its descriptor is gone", async (_what, send) => {
    await serve({ headersMs: 40, requestMs: 60 }, async (request) => new Response(await request.text()));
    const late = client(send);
    await late.closed;
    expect(late.text).toMatch(/^HTTP\/1\.1 408 /);
    expect(late.text).toContain("the request did not come in time; allowed: 0.04 s for headers");
    await until(async () => (await open()) === 0);
    expect(late.socket.writable).toBe(true);
  });

  it("what is no request is told at once, and its descriptor is gone though the client goes on", async () => {
    await serve({});
    const clients = Array.from({ length: 80 }, () => client("GARBAGE\r\n\r\n"));
    await Promise.all(clients.map(({ closed }) => closed));
    expect(clients.filter(({ text }) => /^HTTP\/1\.1 400 /.test(text)).length).toBeGreaterThanOrEqual(64);
    await until(async () => (await open()) === 0);
  });

  it("an answer that has begun is not followed by another", async () => {
    const half = new ReadableStream({
      start: (controller) => controller.enqueue(new TextEncoder().encode("half")),
    });
    // Long enough for the beginning to be on its way on a busy machine.
    await serve({ requestMs: 500, headersMs: 500 }, async () => new Response(half));
    const late = client("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc");
    await late.closed;
    expect(late.text).toContain("half");
    expect(late.text).not.toContain("408");
    await until(async () => (await open()) === 0);
  });
});

describe("a client", () => {
  it("that takes nothing of its answer is cut off, one that waits for it is not", async () => {
    let done: (response: Response) => void = () => {};
    const slow = new Promise<Response>((resolve) => {
      done = resolve;
    });
    const large = new Uint8Array(2 ** 24);
    await serve({ stalledMs: 50 }, async (request) =>
      request.url.endsWith("/large") ? new Response(large) : slow,
    );
    const waiting = client(GET);
    client(GET.replace("/ ", "/large "), false);
    await until(async () => (await open()) === 2);
    await until(async () => (await open()) === 1);
    await sleep(120);
    done(new Response("late"));
    await until(() => waiting.text.includes("late"));
  });

  it("that sends requests ahead has them answered one after another, in order", async () => {
    let running = 0;
    let most = 0;
    await serve({}, async (request) => {
      most = Math.max(most, ++running);
      await sleep(1);
      running--;
      return new Response(`<${new URL(request.url).pathname}>`);
    });
    const paths = Array.from({ length: 40 }, (_, i) => `/${i}`);
    const pipelined = client(paths.map((path) => GET.replace("/", path)).join(""));
    await until(() => pipelined.text.includes("</39>"));
    expect(most).toBe(1);
    expect([...pipelined.text.matchAll(/<(\/\d+)>/g)].map(([, path]) => path)).toEqual(paths);
  });

  it("that sends hundreds of requests ahead is cut off", async () => {
    await serve({}, () => new Promise(() => {}));
    const pipelined = client(GET.repeat(500));
    await pipelined.closed;
    await until(async () => (await open()) === 0);
  });

  it("that leaves has none of its waiting requests worked on", async () => {
    let worked = 0;
    let left = false;
    await serve({}, (request) => {
      worked++;
      return new Promise((resolve) =>
        request.signal.addEventListener("abort", () => {
          left = true;
          resolve(new Response(""));
        }),
      );
    });
    const pipelined = client(GET.repeat(10));
    await until(() => worked === 1);
    pipelined.socket.destroy();
    await until(() => left);
    await until(async () => (await open()) === 0);
    expect(worked).toBe(1);
  });
});

describe("at the bound of connections", () => {
  it("the one that is idle for longest makes place", async () => {
    await serve({ connections: 3 });
    const first = client(GET);
    await until(() => first.text.includes("hello"));
    const second = client("");
    const third = client("");
    await until(async () => (await open()) === 3);
    const fourth = client(GET);
    await until(() => fourth.text.includes("hello"));
    await first.closed;
    expect(await open()).toBe(3);
    expect([second, third].every(({ socket }) => !socket.readableEnded)).toBe(true);
  });

  it("of which all are busy a new one is told so and closed", async () => {
    let busy = 0;
    await serve({ connections: 2 }, () => {
      busy++;
      return new Promise(() => {});
    });
    client(GET);
    client(GET);
    await until(() => busy === 2);
    const refused = client(GET);
    await refused.closed;
    expect(refused.text).toMatch(/^HTTP\/1\.1 503 /);
    expect(refused.text).toContain("retry-after: 1");
    expect(refused.text).toContain("too_many_connections");
    await until(async () => (await open()) === 2);
  });

  it("of one address this machine's own, and so a reverse proxy, are free", async () => {
    await serve({ connectionsPerAddress: 1 }, () => new Promise(() => {}));
    for (let i = 0; i < 5; i++) client(GET);
    await until(async () => (await open()) === 5);
  });

  it("of one other address it has to do with its own, and others come in", async () => {
    let address = "192.0.2.7";
    let busy = 0;
    await serve({ connectionsPerAddress: 2, connections: 3 }, (request) => {
      if (!request.url.endsWith("/busy")) return hello(request);
      busy++;
      return new Promise(() => {});
    });
    server.prependListener("connection", (socket: Socket) =>
      Object.defineProperty(socket, "remoteAddress", { value: address }),
    );
    const idle = client("");
    await until(async () => (await open()) === 1);
    const second = client(GET.replace("/ ", "/busy "));
    await until(() => busy === 1);
    const third = client(GET.replace("/ ", "/busy "));
    await idle.closed;
    await until(() => busy === 2);
    const fourth = client(GET);
    await fourth.closed;
    expect(fourth.text).toMatch(/^HTTP\/1\.1 503 /);
    address = "192.0.2.8";
    const other = client(GET);
    await until(() => other.text.includes("hello"));
    expect([second, third].every(({ socket }) => !socket.readableEnded)).toBe(true);
  });

  it("addresses of one client are one", () => {
    const same = (a: string, b: string) => networkOf(a) === networkOf(b);
    for (const own of ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"]) expect(networkOf(own)).toBe("");
    expect(networkOf("::ffff:192.0.2.7")).toBe("192.0.2.7");
    expect(same("192.0.2.7", "192.0.2.8")).toBe(false);
    expect(networkOf("2001:db8:1:2:3:4:5:6")).toBe("2001:db8:1:2");
    expect(same("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::9")).toBe(true);
    expect(same("2001:db8::1", "2001:db8:0:0:ffff::1")).toBe(true);
    expect(same("2001:db8:0:1::1", "2001:db8::1")).toBe(false);
    expect(networkOf("fe80::1%eth0")).toBe("fe80:0:0:0");
  });
});
