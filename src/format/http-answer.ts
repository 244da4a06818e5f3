/**
 * One response to a range request: its status, its range, its body. Decides which responses are errors, and which
 * errors are worth another attempt.
 */
import { FormatError, NibbleError } from "./errors.ts";

/** The longest Retry-After that is obeyed. */
const LONGEST_WAIT_MS = 30_000;

/** The server has no such file. */
export class MissingError extends NibbleError {}

/** An attempt failed in a way that another attempt may not. */
export class Dropped extends Error {
  constructor(
    message: string,
    readonly waitMs = 0,
    cause?: unknown,
  ) {
    super(message, { cause });
  }
}

/** Waits for one step of an exchange, with a time limit. */
export type Guard = <Result>(step: Promise<Result>) => Promise<Result>;

/**
 * Rejects when the signal fires. Undici does not always settle the read of an aborted body: in Node 20.20 one in sixty
 * hangs if the abort falls between two reads. So a guard waits for this promise together with the step.
 */
export function endedBy(signal: AbortSignal): Promise<never> {
  const ended = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(new Error("the connection was given up")));
  });
  // Usually nothing awaits it.
  ended.catch(() => {});
  return ended;
}

/** Streams the body into `into`, which it must fill exactly. */
export async function receive(
  name: string,
  response: Response,
  into: Uint8Array,
  guard: Guard,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const reader = response.body?.getReader();
  let at = 0;
  for (;;) {
    const { done, value } = reader ? await guard(reader.read()) : { done: true, value: undefined };
    if (done || !value) break;
    if (at + value.length > into.length)
      throw new FormatError(name, `a response longer than its range`, `${into.length}`);
    into.set(value, at);
    at += value.length;
    onBytes(value.length);
  }
  if (at < into.length) throw new Dropped(`the connection ended after ${at} of ${into.length} bytes`);
}

/** Every status but 206 is an error: which one, and whether to try again. */
export function refuseStatus(name: string, { status, headers }: Response): void {
  if (status === 206) return;
  if (status === 200 && headers.get("content-type")?.startsWith("text/html"))
    throw new NibbleError(
      "io",
      `${name}: the server sent a page (text/html) instead of a file. Is this the URL of the file itself?`,
    );
  if (status === 200)
    throw new NibbleError(
      "io",
      `${name}: the server ignores Range and sends the whole file. Use a server that supports range requests, or load the file from disk.`,
    );
  if (status === 404 || status === 410) throw new MissingError("io", `${name}: no such file (${status})`);
  if (status === 401 || status === 403)
    throw new NibbleError("io", `${name}: no access (${status}). Does it need an authorization header?`);
  if (status === 416) throw new FormatError(name, "it is empty or shorter than it was (416)");
  if (status >= 500 || status === 408 || status === 429) {
    const seconds = Number(headers.get("retry-after") ?? 0);
    throw new Dropped(`the server answered ${status}`, Math.min(seconds * 1000 || 0, LONGEST_WAIT_MS));
  }
  throw new NibbleError("io", `${name}: the server answered ${status}`);
}

/**
 * The range of a 206, `end` exclusive; null if its header is not visible to the page; `size` is null if it is not
 * given.
 */
export function contentRange(
  name: string,
  response: Response,
): { start: number; end: number; size: number | null } | null {
  const text = response.headers.get("content-range");
  if (text === null) return null;
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(text);
  const [start, last] = [Number(match?.[1]), Number(match?.[2])];
  const size = match?.[3] === "*" ? null : Number(match?.[3]);
  const numbers = [start, last, size ?? 0].every(Number.isSafeInteger);
  if (!match || !numbers || last < start || (size !== null && last >= size))
    throw new FormatError(name, `Content-Range ${JSON.stringify(text)}`, "bytes FIRST-LAST/SIZE");
  return { start, end: last + 1, size };
}
