/**
 * A request's body as JSON, of bounded length.
 * The type that a client declares does not matter: Origin is what keeps other sites out (`guard.ts`), and curl calls JSON
 * a form.
 */
import { inSlices } from "../../index.ts";
import { ApiError } from "./errors.ts";
import type { FieldTable } from "./field-rules.ts";
import { Fields } from "./fields.ts";
import { BODY_BOUNDS, readJson } from "./json-reader.ts";
import type { Served } from "./served.ts";

/** The body's object, held to the table. ApiError 413 above the server's bound, 400 if it is not a JSON object. */
export async function readBody(
  request: Request,
  { mostBodyBytes, unknownField }: Pick<Served, "mostBodyBytes" | "unknownField">,
  table: FieldTable,
): Promise<Fields> {
  const text = await readText(request, mostBodyBytes);
  if (text === "") throw new ApiError(400, "the body is empty; a JSON object is needed");
  const value = await inSlices(readJson(text, BODY_BOUNDS), "reading the request", request.signal);
  return new Fields(value, "", unknownField).hold(table);
}

/** Decoded as it arrives. */
async function readText(request: Request, mostBytes: number): Promise<string> {
  const tooLong = () =>
    new ApiError(413, `the body is longer than ${mostBytes} bytes; the server's --max-body allows more`, {
      code: "body_too_large",
    });
  if (Number(request.headers.get("content-length") ?? 0) > mostBytes) throw tooLong();
  if (!request.body) return "";
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const decoded = (bytes?: Uint8Array) => {
    try {
      return decoder.decode(bytes, { stream: bytes !== undefined });
    } catch {
      throw new ApiError(400, "the body is not UTF-8");
    }
  };
  const texts: string[] = [];
  let length = 0;
  const reader = request.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      length += value.length;
      if (length > mostBytes) throw tooLong();
      texts.push(decoded(value));
    }
    texts.push(decoded());
  } catch (error) {
    await reader.cancel().catch(() => {});
    throw error instanceof ApiError ? error : new ApiError(400, "the body ended early");
  }
  return texts.join("");
}
