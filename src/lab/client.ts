/** The executor of a process that does not own the lab's folder: it sends its units to the owner's socket. */
import { Agent, request } from "node:http";
import { AwayError, type Executor, type Row, SqlError } from "./executor.ts";

/** An owner that is suspended (Ctrl-Z) does not answer; the request is repeated. */
const SILENT_MS = 60_000;

/** `socket`, `token`: of the owner's lock. */
export function openClient(socket: string, token: string): Executor {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  return {
    run: async (statements, entries = []) => {
      const { status, text } = await post(agent, socket, token, JSON.stringify({ statements, entries }));
      let answer: { rows?: Row[][]; error?: string; state?: string };
      try {
        answer = JSON.parse(text);
      } catch (cause) {
        throw new AwayError("the owner's answer ended early", { cause });
      }
      if (status === 200 && answer.rows) return answer.rows;
      if (status === 422 && answer.state) throw new SqlError(answer.state, answer.error ?? "refused");
      throw new AwayError(`the owner answered ${status}: ${answer.error}`);
    },
    close: async () => agent.destroy(),
  };
}

function post(agent: Agent, socketPath: string, token: string, body: string) {
  return new Promise<{ status: number; text: string }>((resolve, reject) => {
    const away = (cause: Error) => reject(new AwayError(`the owner: ${cause.message}`, { cause }));
    const headers = { authorization: `Bearer ${token}`, "content-length": Buffer.byteLength(body) };
    const options = { agent, socketPath, method: "POST", path: "/run", headers, timeout: SILENT_MS };
    const sent = request(options, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", away);
      response.on("close", () => {
        if (response.complete)
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() });
        else away(new Error("its connection ended"));
      });
    });
    sent.on("error", away);
    sent.on("timeout", () => sent.destroy(new Error(`no answer for ${SILENT_MS / 1000} s`)));
    sent.end(body);
  });
}
