/**
 * Who may use the server. A page of another site in the user's browser can reach 127.0.0.1: by a form or fetch (seen
 * in its Origin), or under a name of its own that resolves to this address ("DNS rebinding": seen in its Host). Does these two
 * checks, the API key, and CORS for the allowed origins.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { isIP } from "node:net";
import { ArgumentError } from "../../index.ts";
import { ApiError } from "./errors.ts";

export interface GuardOptions {
  /** null: none is required. */
  readonly apiKey: string | null;
  /** Origins of other sites that may call, as browsers write them; "*": all. */
  readonly origins: readonly string[];
  /** Names, other than localhost and addresses, under which the server is reached, in lower case. */
  readonly hosts: readonly string[];
}

/** The command line's options, checked: ArgumentError for values that no request could match. */
export function readGuard(given: { apiKey?: string; cors: string[]; allowHost: string[] }): GuardOptions {
  // A header cannot contain other characters, and its value ends at a blank.
  if (given.apiKey !== undefined && !/^[\x21-\x7e]+$/.test(given.apiKey))
    throw new ArgumentError(
      "apiKey",
      given.apiKey === "" ? "empty" : "one with blanks or characters beyond ASCII",
      "visible ASCII characters; without the option no key is asked for",
    );
  return {
    apiKey: given.apiKey ?? null,
    origins: given.cors.map((text) => {
      const origin = text === "*" ? text : readOrigin(text);
      if (origin !== null) return origin;
      throw new ArgumentError(
        "cors",
        text,
        "an origin such as https://example.org or app://obsidian.md, null, *",
      );
    }),
    hosts: given.allowHost.map((text) => {
      const url = `http://${text}`;
      if (/^[^/?#@]+$/.test(text) && URL.canParse(url)) return new URL(url).hostname.replace(/\.$/, "");
      throw new ArgumentError("allowHost", text, "a name such as box.local");
    }),
  };
}

/**
 * An origin as browsers send it; null: invalid. Those of web sites have one form, whatever the user typed; others
 * (app://obsidian.md, chrome-extension://..., and "null", which files and sandboxed frames send) are compared as text.
 */
function readOrigin(text: string): string | null {
  if (text === "null") return text;
  const bare = text.replace(/\/$/, "");
  if (!/^[a-z][a-z0-9+.-]*:\/\/[\w.~%:[\]-]+$/i.test(bare)) return null;
  if (!/^https?:/i.test(bare)) return bare;
  return URL.canParse(bare) ? new URL(bare).origin : null;
}

/** Paths that need no key: whether the server is alive. */
const OPEN = "/health";

/** Throws ApiError 403 for another site, 401 without the key. `isOpen`: static files need no key. */
export function checkCaller(request: Request, options: GuardOptions, isOpen: boolean): void {
  const { pathname, hostname, host } = new URL(request.url);
  if (!isOwnHost(hostname, options.hosts))
    throw new ApiError(
      403,
      `the name ${JSON.stringify(hostname)} is not this server's; start it with --allow-host ${hostname}`,
      { code: "host_not_allowed" },
    );
  const origin = request.headers.get("origin");
  if (origin !== null && !isOwnOrigin(origin, host) && !isAllowed(origin, options.origins)) {
    const allowable = origin.length > 200 ? null : readOrigin(origin);
    const wayOut = allowable === null ? "this is no origin" : `start it with --cors ${allowable}`;
    throw new ApiError(
      403,
      `pages of ${JSON.stringify(origin.slice(0, 200))} may not use this server; ${wayOut}`,
      { code: "origin_not_allowed" },
    );
  }
  if (options.apiKey === null || isOpen || pathname === OPEN || request.method === "OPTIONS") return;
  const [scheme, given = ""] = (request.headers.get("authorization") ?? "").split(/\s+/, 2);
  if (scheme.toLowerCase() === "bearer" && isEqual(given, options.apiKey)) return;
  // As Anthropic's clients send it.
  if (isEqual(request.headers.get("x-api-key") ?? "", options.apiKey)) return;
  throw new ApiError(401, "the API key is missing or wrong; send it as Authorization: Bearer KEY", {
    code: "invalid_api_key",
    headers: { "www-authenticate": "Bearer" },
  });
}

/** What a page of an allowed origin needs to read the answer. */
export function corsHeaders(request: Request, { origins }: GuardOptions): Readonly<Record<string, string>> {
  const origin = request.headers.get("origin");
  if (origins.length === 0) return {};
  if (origin === null || !isAllowed(origin, origins)) return { vary: "origin" };
  const base = { "access-control-allow-origin": origin, vary: "origin" };
  if (request.method !== "OPTIONS") return base;
  const asked = request.headers.get("access-control-request-headers");
  return {
    ...base,
    "access-control-allow-methods": "GET, POST, OPTIONS",
    // Clients send headers of their own (x-stainless-...), which are all ignored.
    "access-control-allow-headers": asked ?? "authorization, content-type",
    "access-control-max-age": "600",
    ...(request.headers.get("access-control-request-private-network") === "true"
      ? { "access-control-allow-private-network": "true" }
      : {}),
  };
}

/** An address cannot be rebound, and neither can localhost. */
function isOwnHost(hostname: string, hosts: readonly string[]): boolean {
  const name = hostname.replace(/^\[|\]$/g, "").replace(/\.$/, "");
  return isIP(name) !== 0 || name === "localhost" || name.endsWith(".localhost") || hosts.includes(name);
}

/** Whether the origin is the page that this server shows, directly or through a proxy with TLS. */
function isOwnOrigin(origin: string, host: string): boolean {
  return /^https?:/i.test(origin) && URL.canParse(origin) && new URL(origin).host === host;
}

function isAllowed(origin: string, origins: readonly string[]): boolean {
  return origins.includes("*") || origins.includes(origin);
}

/** Compares in constant time. */
function isEqual(a: string, b: string): boolean {
  const hash = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(hash(a), hash(b));
}
