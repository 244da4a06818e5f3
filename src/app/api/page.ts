/**
 * The chat page's files. Their list is made once: a request can only name an entry of it,
 * so no path leads out of the folder. Supports ranges, for a page that reads a model in parts. Files need no key, so
 * the cost of a reader is bounded: files are read while they are sent.
 */
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { extname, join } from "node:path";

/** null: there is no such file. */
export type Page = (request: Request) => Promise<Response | null>;

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".webmanifest": "application/manifest+json",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".ico": "image/x-icon",
  ".woff2": "font/woff2",
  ".wasm": "application/wasm",
  ".txt": "text/plain; charset=utf-8",
};

/** Read and sent at once. */
const READ_BYTES = 2 ** 16;

/**
 * The page runs only its own scripts. It may connect to any http(s) address that allows it, since users enter servers and
 * addresses of models there, which are not known when the page is sent. It shows pictures in answers only
 * on request.
 */
const POLICY = [
  "default-src 'self'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data: blob: https: http:",
  "connect-src 'self' https: http: blob:",
  "worker-src 'self' blob:",
  "object-src 'none'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const WITHOUT = `nibble serves here; the chat page was not built.
The API: /v1/models, /v1/chat/completions, /v1/completions, /health, /metrics.
`;

interface File {
  readonly path: string;
  readonly size: number;
  readonly type: string;
  readonly etag: string;
}

/** folder: of the built page; models: of what lies at /models/, for the page to run. Without a page, "/" is a short text. */
export async function openPage(folder: string, models: string): Promise<Page> {
  const files = new Map([...(await listFiles(folder, "/")), ...(await listFiles(models, "/models/"))]);
  return async (request) => {
    const { pathname } = new URL(request.url);
    const file = files.get(pathname === "/" ? "/index.html" : pathname);
    if (file) return answer(file, request);
    if (pathname !== "/") return null;
    return new Response(WITHOUT, { headers: { "content-type": TYPES[".txt"] } });
  };
}

/** By the path of their URL, with the prefix `at`. */
async function listFiles(folder: string, at: string): Promise<Map<string, File>> {
  const files = new Map<string, File>();
  let names: string[];
  try {
    names = await readdir(folder, { recursive: true });
  } catch {
    return files;
  }
  for (const name of names) {
    const path = join(folder, name);
    const found = await stat(path);
    if (!found.isFile()) continue;
    const { size, mtimeMs } = found;
    const url = `${at}${name.replaceAll("\\", "/").split("/").map(encodeURIComponent).join("/")}`;
    const type = TYPES[extname(name).toLowerCase()] ?? "application/octet-stream";
    files.set(url, { path, size, type, etag: `"${size.toString(36)}-${Math.floor(mtimeMs).toString(36)}"` });
  }
  return files;
}

function answer({ path, size, type, etag }: File, request: Request): Response {
  const headers = new Headers({
    "content-type": type,
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "accept-ranges": "bytes",
    // Always asked again, and answered with 304: a file of 100 kB from this machine needs no more.
    "cache-control": "no-cache",
    etag,
  });
  if ((request.headers.get("if-none-match") ?? "").includes(etag))
    return new Response(null, { status: 304, headers });
  const range = rangeOf(request, size);
  if (range === "none") {
    headers.set("content-range", `bytes */${size}`);
    return new Response(null, { status: 416, headers });
  }
  const { first, end } = range ?? { first: 0, end: size };
  headers.set("content-length", String(end - first));
  if (range) headers.set("content-range", `bytes ${first}-${end - 1}/${size}`);
  return new Response(first < end ? partOf(path, first, end) : null, { status: range ? 206 : 200, headers });
}

/** One range of the Range header; null: the whole file; "none": outside of it. */
function rangeOf(request: Request, size: number): { first: number; end: number } | "none" | null {
  const found = /^bytes=(\d*)-(\d*)$/.exec(request.headers.get("range") ?? "");
  if (!found || (found[1] === "" && found[2] === "")) return null;
  const first = found[1] === "" ? Math.max(0, size - Number(found[2])) : Number(found[1]);
  const end = found[1] === "" || found[2] === "" ? size : Math.min(size, Number(found[2]) + 1);
  return first < end ? { first, end } : "none";
}

/**
 * Bytes [first, end) as they are read, so that a reader costs two buffers at a time whatever it requests. The file is
 * open from the first buffer to the last: an answer that is not read has opened nothing.
 */
function partOf(path: string, first: number, end: number): ReadableStream<Uint8Array> {
  let file: FileHandle | null = null;
  let at = first;
  const close = () => file?.close();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          file ??= await open(path);
          const bytes = new Uint8Array(Math.min(READ_BYTES, end - at));
          const { bytesRead } = await file.read(bytes, 0, bytes.length, at);
          if (bytesRead === 0) throw new Error(`${path} is shorter than when the server started`);
          at += bytesRead;
          controller.enqueue(bytes.subarray(0, bytesRead));
          if (at < end) return;
          await close();
          controller.close();
        } catch (error) {
          await close();
          throw error;
        }
      },
      cancel: close,
    },
    // Nothing is read before it is asked for.
    { highWaterMark: 0 },
  );
}
