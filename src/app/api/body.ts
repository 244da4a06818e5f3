/**
 * A request's body as JSON, within bounds. Owns how long a body may be and how deep its values nest, so that nothing
 * behind it has to fear for its stack. The type that a client declares does not matter: Origin is what keeps other
 * sites out (`guard.ts`), and curl calls JSON a form.
 */
import { ApiError } from "./errors.ts";
import type { FieldTable } from "./field-rules.ts";
import { Fields } from "./fields.ts";
import type { Served } from "./served.ts";

const DEEPEST = 64;

/** The body's object, held to the table. ApiError 413 above the server's bound, 400 for what is no JSON object. */
export async function readBody(request: Request, served: Served, table: FieldTable): Promise<Fields> {
  const bytes = await readBytes(request, served.mostBodyBytes);
  if (bytes.length === 0) throw new ApiError(400, "the body is empty; a JSON object is needed");
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new ApiError(400, "the body is not UTF-8");
  }
  const depth = depthOf(text);
  if (depth > DEEPEST)
    throw new ApiError(400, `the body nests ${depth} levels deep; allowed: up to ${DEEPEST}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ApiError(400, `the body is no JSON: ${(error as Error).message}`);
  }
  return new Fields(value, "", served.unknownField).hold(table);
}

async function readBytes(request: Request, mostBytes: number): Promise<Uint8Array> {
  const tooLong = () =>
    new ApiError(413, `the body is longer than ${mostBytes} bytes; the server's --max-body allows more`, {
      code: "body_too_large",
    });
  if (Number(request.headers.get("content-length") ?? 0) > mostBytes) throw tooLong();
  if (!request.body) return new Uint8Array(0);
  const chunks: Uint8Array[] = [];
  let length = 0;
  const reader = request.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      length += value.length;
      if (length > mostBytes) throw tooLong();
      chunks.push(value);
    }
  } catch (error) {
    await reader.cancel().catch(() => {});
    throw error instanceof ApiError ? error : new ApiError(400, "the body ended early");
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/** How deep brackets outside of strings nest; in text that is no JSON, whatever this counts. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  for (let at = 0; at < text.length; at++) {
    const c = text[at];
    if (c === "[" || c === "{") deepest = Math.max(deepest, ++depth);
    else if (c === "]" || c === "}") depth--;
    else if (c === '"') {
      at = endOfString(text, at);
    }
  }
  return deepest;
}

/** The place of the quote that closes the string opened at `from`; the text's end when none does. */
function endOfString(text: string, from: number): number {
  for (let at = from + 1; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === '"') return at;
  }
  return text.length;
}
