/**
 * A Hub on this machine for tests: the API's list of files, resolve, and a second server on another origin that large
 * files are redirected to, as the real one does. `intercept` may misbehave in place of any answer.
 */
import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { answer, type Server, serve } from "../http-server.ts";

export const COMMIT = "c0ffee0000000000000000000000000000c0ffee";
/** Files from here on are "LFS": SHA-256, and on the other server. */
const LARGE_BYTES = 1000;

export interface FakeHub {
  readonly hub: Server;
  readonly files: Server;
  readonly endpoint: string;
  /** May be changed while it runs. */
  readonly content: Map<string, Uint8Array>;
  /** [host:port, authorization] of each request. */
  readonly authorizations: [string, string | undefined][];
  /** True: it has answered. */
  intercept: (request: IncomingMessage, response: ServerResponse, at: "hub" | "files") => boolean;
  commit: string;
  /** What the list says, where that is not the truth. */
  listed: (entries: object[]) => unknown;
  close(): Promise<void>;
}

/** Hashed once: nobody writes into a file's bytes, and 20 MB take 65 ms. */
const hashes = new WeakMap<Uint8Array, string>();

export function sha256(bytes: Uint8Array): string {
  const known = hashes.get(bytes) ?? createHash("sha256").update(bytes).digest("hex");
  hashes.set(bytes, known);
  return known;
}

export const gitSha1 = (bytes: Uint8Array) =>
  createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");

export function entryOf(path: string, bytes: Uint8Array): object {
  const size = bytes.length;
  if (size < LARGE_BYTES) return { type: "file", oid: gitSha1(bytes), size, path };
  return {
    type: "file",
    oid: "0".repeat(40),
    size,
    lfs: { oid: sha256(bytes), size, pointerSize: 134 },
    path,
  };
}

export async function fakeHub(files: Record<string, Uint8Array | string>): Promise<FakeHub> {
  const content = new Map(
    Object.entries(files).map(([path, bytes]): [string, Uint8Array] => [
      path,
      typeof bytes === "string" ? Buffer.from(bytes) : bytes,
    ]),
  );
  const authorizations: FakeHub["authorizations"] = [];
  const large = await serve((request, response) => {
    authorizations.push([request.headers.host!, request.headers.authorization]);
    if (made.intercept(request, response, "files")) return;
    const path = decodeURIComponent(request.url!.split("?")[0].slice(1));
    const bytes = content.get(path)!;
    answer(request, response, bytes, { etag: `"${sha256(bytes)}"` });
  });
  const hub = await serve((request, response) => {
    authorizations.push([request.headers.host!, request.headers.authorization]);
    if (made.intercept(request, response, "hub")) return;
    const { pathname } = new URL(request.url!, "http://hub");
    const json = (value: unknown) =>
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
    const [, owner, name] = /^(?:\/api\/models)?\/([^/]+)\/([^/]+)\//.exec(pathname) ?? [];
    if (owner !== "owner" || name !== "name")
      return response.writeHead(401, { "x-error-code": "RepoNotFound" }).end();
    const rest = pathname.slice(pathname.indexOf("owner/name/") + "owner/name/".length);
    if (rest === "revision/main" || rest === `revision/${made.commit}`)
      return json({ id: "owner/name", sha: made.commit, siblings: [] });
    if (rest.startsWith("revision/"))
      return response.writeHead(404, { "x-error-code": "RevisionNotFound" }).end();
    if (rest === `tree/${made.commit}`)
      return json(made.listed([...content].map(([path, bytes]) => entryOf(path, bytes))));
    const path = decodeURIComponent(rest.replace(`resolve/${made.commit}/`, ""));
    const bytes = content.get(path);
    if (!bytes) return response.writeHead(404, { "x-error-code": "EntryNotFound" }).end();
    if (bytes.length < LARGE_BYTES) return answer(request, response, bytes, { etag: `"${gitSha1(bytes)}"` });
    const location = `${large.url}${encodeURIComponent(path)}?signature=${hub.requests.length}`;
    const linked = { "x-linked-etag": `"${sha256(bytes)}"`, "x-linked-size": bytes.length };
    return response.writeHead(302, { location, ...linked }).end();
  });
  const made: FakeHub = {
    hub,
    files: large,
    endpoint: hub.url.slice(0, -1),
    content,
    authorizations,
    intercept: () => false,
    commit: COMMIT,
    listed: (entries) => entries,
    async close() {
      await Promise.all([hub.close(), large.close()]);
    },
  };
  return made;
}
