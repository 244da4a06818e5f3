/**
 * The HTTP server around the API: sockets and their limits. A connection is answered one request at a
 * time, so pipelined requests cost nothing until their turn. A connection whose request does not come in time, or whose
 * answer is not read, is destroyed. One idea: at a bound the connection that is idle for
 * longest makes place, so idle connections keep no client out.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { BlockList, isIPv4, type Socket } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { ApiError, errorResponse } from "./api/errors.ts";
import { allowHalfClosed, noteAnswer, watchHalfClosed } from "./half-close.ts";
import { readHost } from "./host-header.ts";

export interface HttpBounds {
  /** Connections of all clients together. */
  readonly connections: number;
  /**
   * Of one address, or of one IPv6 network of 64 bits. Does not hold for this machine's own addresses: a reverse proxy
   * here forwards all clients' requests.
   */
  readonly connectionsPerAddress: number;
  /** For a request's headers, and for all of it. */
  readonly headersMs: number;
  readonly requestMs: number;
  /** How often these two are checked. */
  readonly checkMs: number;
  /** Idle time between two requests. Longer than the 60 s of nginx and AWS, which would otherwise use closed connections. */
  readonly idleMs: number;
  /** A client that reads nothing of its answer for this long counts as gone. */
  readonly stalledMs: number;
  /** Time for a refused client to read the reason. */
  readonly lingerMs: number;
}

export const HTTP_BOUNDS: HttpBounds = {
  connections: 1024,
  connectionsPerAddress: 256,
  headersMs: 30_000,
  requestMs: 300_000,
  checkMs: 5000,
  idleMs: 65_000,
  stalledMs: 60_000,
  lingerMs: 500,
};

/** Pipelined requests of one connection. Each costs some kB until its turn; browsers send none. */
const MOST_AHEAD = 100;
/** Refused connections that stay open until their clients have read the reason; further ones are closed at once. */
const MOST_LINGERING = 64;

const OWN = new BlockList();
OWN.addSubnet("127.0.0.0", 8);
OWN.addAddress("::1", "ipv6");

interface Connection {
  readonly socket: Socket;
  /** "": this machine's. */
  readonly network: string;
  /** What is being answered; null: idle since then. */
  outgoing: ServerResponse | null;
  idleSince: number;
  readonly ahead: (() => void)[];
}

/** Creates a server that does not listen yet. */
export function httpServer(
  api: (request: Request) => Promise<Response>,
  bounds: Partial<HttpBounds> = {},
): Server {
  const limits = { ...HTTP_BOUNDS, ...bounds };
  const answer = async (request: Request, { outgoing }: { outgoing: object }) => {
    const response = await api(request);
    noteAnswer(outgoing, response);
    return response;
  };
  const listener = getRequestListener(answer, {
    overrideGlobalObjects: false,
    errorHandler: () => errorResponse(new ApiError(400, "the request's address or Host header is malformed")),
  });
  const connections = new Connections(limits, listener);
  const server = createServer(
    {
      // A request without Host is answered by the listener, as JSON.
      requireHostHeader: false,
      headersTimeout: limits.headersMs,
      requestTimeout: limits.requestMs,
      connectionsCheckingInterval: limits.checkMs,
      keepAliveTimeout: limits.idleMs,
    },
    (incoming, outgoing) => connections.request(incoming, outgoing),
  );
  server.timeout = limits.stalledMs;
  allowHalfClosed(server);
  server.on("connection", (socket: Socket) => connections.enter(socket));
  server.on("clientError", (error, socket) => connections.fail(error, socket as Socket));
  server.on("timeout", (socket: Socket) => connections.silent(socket));
  return server;
}

class Connections {
  readonly #open = new Map<Socket, Connection>();
  readonly #lingering = new Set<Socket>();

  constructor(
    readonly limits: HttpBounds,
    readonly listener: (incoming: IncomingMessage, outgoing: ServerResponse) => Promise<unknown>,
  ) {}

  enter(socket: Socket): void {
    const { connections, connectionsPerAddress } = this.limits;
    const network = networkOf(socket.remoteAddress ?? "");
    const isNeighbour = (other: Connection) => network !== "" && other.network === network;
    const hasPlace =
      this.#makePlace(isNeighbour, connectionsPerAddress) && this.#makePlace(() => true, connections);
    if (!hasPlace)
      return this.#refuse(
        socket,
        new ApiError(503, "the server has as many connections as it takes; try again later", {
          code: "too_many_connections",
          headers: { "retry-after": "1" },
        }),
      );
    this.#open.set(socket, { socket, network, outgoing: null, idleSince: performance.now(), ahead: [] });
    watchHalfClosed(socket, () => this.#open.get(socket)?.outgoing ?? null);
    socket.once("close", () => this.#open.delete(socket));
  }

  /** Among the connections that count. False: all of them are being answered. */
  #makePlace(counts: (other: Connection) => boolean, most: number): boolean {
    const among = [...this.#open.values()].filter(counts);
    if (among.length < most) return true;
    const idle = among.filter(({ outgoing }) => outgoing === null);
    if (idle.length === 0) return false;
    const longest = idle.reduce((a, b) => (b.idleSince < a.idleSince ? b : a));
    longest.socket.destroy();
    this.#open.delete(longest.socket);
    return true;
  }

  /** Node answers in the order of requests, but would process all of them at once. */
  request(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const connection = this.#open.get(incoming.socket);
    // Refused: its data is not read.
    if (!connection) return;
    const start = () => {
      connection.outgoing = outgoing;
      outgoing.once("close", () => {
        connection.outgoing = null;
        connection.idleSince = performance.now();
        if (!connection.socket.destroyed) connection.ahead.shift()?.();
      });
      readHost(incoming);
      void this.listener(incoming, outgoing);
    };
    if (connection.outgoing === null) start();
    else if (connection.ahead.length < MOST_AHEAD) connection.ahead.push(start);
    else connection.socket.destroy();
  }

  /** Invalid bytes, or a request that did not come in time. */
  fail(error: NodeJS.ErrnoException, socket: Socket): void {
    if (this.#lingering.has(socket)) return;
    // An answer has begun: a second one would be read as part of it.
    if (!socket.writable || this.#open.get(socket)?.outgoing?.headersSent) socket.destroy();
    else this.#refuse(socket, unreadable(error, this.limits));
  }

  /** Nothing was read or written for a while. */
  silent(socket: Socket): void {
    const isComputing = this.#open.get(socket)?.outgoing != null && socket.writableLength === 0;
    if (isComputing) socket.setTimeout(this.limits.stalledMs);
    else socket.destroy();
  }

  /**
   * Closes with an answer. Closing a socket with unread data resets the connection, which may discard the
   * answer: the client gets a moment to read it and to close its side.
   */
  #refuse(socket: Socket, error: ApiError): void {
    if (this.#lingering.size >= MOST_LINGERING) {
      socket.destroy();
      return;
    }
    this.#lingering.add(socket);
    const timer = setTimeout(() => socket.destroy(), this.limits.lingerMs);
    socket.once("end", () => socket.destroySoon());
    socket.once("close", () => {
      clearTimeout(timer);
      this.#lingering.delete(socket);
    });
    socket.on("error", () => socket.destroy());
    socket.end(rawResponse(error));
  }
}

const REASONS: Readonly<Record<number, string>> = {
  400: "Bad Request",
  408: "Request Timeout",
  431: "Request Header Fields Too Large",
  503: "Service Unavailable",
};

function rawResponse(error: ApiError): string {
  const body = JSON.stringify(error);
  const headers = {
    connection: "close",
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
    ...error.headers,
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${error.status} ${REASONS[error.status]}\r\n${lines.join("")}\r\n${body}`;
}

function unreadable({ code }: NodeJS.ErrnoException, { headersMs, requestMs }: HttpBounds): ApiError {
  if (code === "ERR_HTTP_REQUEST_TIMEOUT")
    return new ApiError(
      408,
      `the request did not come in time; allowed: ${headersMs / 1000} s for headers, ${requestMs / 1000} s for all of it`,
    );
  if (code === "HPE_HEADER_OVERFLOW") return new ApiError(431, "the headers are longer than 16 KiB");
  return new ApiError(400, "this is no HTTP request that can be read");
}

/** Addresses that count as one client; "": this machine's own. */
export function networkOf(address: string): string {
  const v4 = /^(?:::ffff:)?(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  const found = v4 ?? address.replace(/%.*$/, "");
  if (OWN.check(found, isIPv4(found) ? "ipv4" : "ipv6")) return "";
  if (v4) return v4;
  const [left, right] = found.split("::").map((half) => half.split(":").filter((group) => group !== ""));
  const zeros = right ? new Array<string>(8 - left.length - right.length).fill("0") : [];
  return [...left, ...zeros, ...(right ?? [])].slice(0, 4).join(":");
}
