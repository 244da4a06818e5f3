/**
 * Who may use the server. A page of another site in the user's browser can reach 127.0.0.1: by a form or fetch (its
 * Origin tells), or under a name of its own that it lets point here ("DNS rebinding": its Host tells). Owns these two
 * checks, the API key, and CORS for the origins that were allowed. Refuses to know routes.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { isIP } from "node:net";
import { ApiError } from "./errors.ts";

export interface GuardOptions {
  /** null: none is asked for. */
  readonly apiKey: string | null;
  /** Origins of other sites that may call; "*": all. */
  readonly origins: readonly string[];
  /** Names besides localhost and addresses under which the server is reached. */
  readonly hosts: readonly string[];
}

/** What anybody may ask for: whether the server lives. */
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
  if (origin !== null && !isOwnOrigin(origin, host) && !isAllowed(origin, options.origins))
    throw new ApiError(
      403,
      `pages of ${JSON.stringify(origin.slice(0, 200))} may not use this server; start it with --cors ${origin.slice(0, 200)}`,
      { code: "origin_not_allowed" },
    );
  if (options.apiKey === null || isOpen || pathname === OPEN || request.method === "OPTIONS") return;
  const [scheme, given = ""] = (request.headers.get("authorization") ?? "").split(/\s+/, 2);
  if (scheme.toLowerCase() === "bearer" && isEqual(given, options.apiKey)) return;
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
    // Clients send headers of their own (x-stainless-...), and none of them means anything here.
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

function isOwnOrigin(origin: string, host: string): boolean {
  try {
    return new URL(origin).host === host;
  } catch {
    return false;
  }
}

function isAllowed(origin: string, origins: readonly string[]): boolean {
  return origins.includes("*") || origins.includes(origin);
}

/** In a time that tells nothing of how much is right. */
function isEqual(a: string, b: string): boolean {
  const hash = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(hash(a), hash(b));
}
