/**
 * A client that has closed its sending side (nc, some scripts) may wait for its answer, or be gone: a closed
 * socket looks the same. One idea: a client that is gone answers a write with a
 * reset, and the next write fails, which ends the generation; one that waits gets two extra lines.
 */
import type { Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** When something is written, repeatedly: the first two writes are enough on this machine. */
const WAITS_MS = [0, 100, 1000];
const LAST_WAIT_MS = 10_000;

/** Node would end such a connection itself. The switch is Node's own (lib/_http_server.js), though not documented. */
export function allowHalfClosed(server: Server): void {
  (server as Server & { httpAllowHalfOpen: boolean }).httpAllowHalfOpen = true;
}

/** answering: the response that the connection waits for; null: none. */
export function watchHalfClosed(socket: Socket, answering: () => ServerResponse | null): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const probe = (times: number) => {
    timer = setTimeout(() => {
      const outgoing = answering();
      const isWaiting = outgoing !== null && !outgoing.writableEnded;
      // In HTTP/1.0 nothing can be written before an answer: a client that is not answered at once counts as gone.
      if (isWaiting && !writeSomething(outgoing) && times > 0) socket.destroy();
      probe(times + 1);
    }, WAITS_MS[times] ?? LAST_WAIT_MS);
  };
  socket.once("end", () => probe(0));
  socket.once("close", () => clearTimeout(timer));
}

/** Answers that allow a comment between two events. A ServerResponse does not report headers passed to writeHead. */
const streams = new WeakSet<object>();

export function noteAnswer(outgoing: object, { headers }: Response): void {
  if (headers.get("content-type")?.startsWith("text/event-stream")) streams.add(outgoing);
}

/** Bytes that do not change the answer; false: there are none. */
function writeSomething(outgoing: ServerResponse): boolean {
  if (!outgoing.headersSent && outgoing.req.httpVersion === "1.0") return false;
  if (!outgoing.headersSent) outgoing.writeProcessing();
  // Other bodies are written at once.
  else if (streams.has(outgoing)) outgoing.write(":\n\n");
  return true;
}
