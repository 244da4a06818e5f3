/** A local HTTP server for tests: honest range answers, and a handler that may misbehave instead of giving one. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Server {
  /** http://127.0.0.1:port/ */
  readonly url: string;
  /** "GET /path bytes=0-9" of every request so far. */
  readonly requests: string[];
  close(): Promise<void>;
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

export async function serve(handler: Handler): Promise<Server> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push([request.method, request.url, request.headers.range].filter(Boolean).join(" "));
    handler(request, response);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    requests,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

export interface Asked {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

/** The range that a request asks of a file of `size` bytes; null: none, or past the end. */
export function asked(request: IncomingMessage, size: number): Asked | null {
  const match = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
  if (!match || Number(match[1]) >= size) return null;
  return { start: Number(match[1]), end: Math.min(Number(match[2]) + 1, size) };
}

/** The answer that HTTP asks for: 206 with the range, 416 past the end, 200 without a Range. */
export function answer(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Uint8Array,
  headers: Record<string, string> = {},
): void {
  const range = asked(request, bytes.length);
  if (request.method === "HEAD" || !request.headers.range) {
    response.writeHead(200, { ...headers, "content-length": bytes.length });
    response.end(request.method === "HEAD" ? undefined : bytes);
  } else if (range === null) {
    response.writeHead(416, { "content-range": `bytes */${bytes.length}` }).end();
  } else {
    const { start, end } = range;
    response.writeHead(206, {
      "content-length": end - start,
      "content-range": `bytes ${start}-${end - 1}/${bytes.length}`,
      ...headers,
    });
    response.end(bytes.subarray(start, end));
  }
}
