/**
 * What the Hub's status codes mean for people: which are errors and what to do about them, and which are worth another
 * attempt and after how long.
 */
import { FormatError, NibbleError } from "../errors.ts";
import { Dropped, MissingError } from "../http-answer.ts";

/** The Hub counts requests in windows of five minutes. */
const LONGEST_WAIT_MS = 5 * 60_000;

export interface Asker {
  /** What was requested, for messages. */
  readonly thing: string;
  /** The repository's page. */
  readonly page: string;
  readonly endpoint: string;
  /** A token was sent. */
  readonly token: boolean;
}

/** The repository does not exist, or is not visible without a token. */
export class UnknownError extends NibbleError {}

/** Throws for every status but success. Dropped: worth another attempt. MissingError: it does not exist. */
export function refuseHubStatus({ status, headers }: Response, asker: Asker): void {
  if (status >= 200 && status < 300) return;
  const { thing } = asker;
  if (status === 408 || status === 429 || status >= 500) {
    const waitMs = askedWait(headers);
    const tokenHelps = status === 429 && !asker.token ? " With a token (HF_TOKEN) the limit is higher." : "";
    if (waitMs > LONGEST_WAIT_MS)
      throw new NibbleError(
        "io",
        `${thing}: the server answered ${status} and asks to wait ${Math.ceil(waitMs / 60_000)} minutes.${tokenHelps}`,
      );
    throw new Dropped(
      status === 429 ? `the server limits our requests (429).${tokenHelps}` : `the server answered ${status}`,
      waitMs,
    );
  }
  if (status === 401 || status === 403) {
    const isUnknown = status === 401 && headers.get("x-error-code") !== "GatedRepo";
    throw new (isUnknown ? UnknownError : NibbleError)("io", `${thing}: ${noAccess(headers, asker)}`);
  }
  if (status === 404 || status === 410) {
    const code = headers.get("x-error-code");
    const missing =
      code === "RevisionNotFound"
        ? "no such revision"
        : code === "RepoNotFound"
          ? `no such repository${asker.token ? "" : ", or one that needs a token (HF_TOKEN)"}`
          : "no such file or repository";
    throw new MissingError("io", `${thing}: ${missing} (${status}); see ${asker.page}`);
  }
  if (status === 416) throw new FormatError(thing, "it is shorter than the Hub lists it (416)");
  throw new NibbleError("io", `${thing}: the server answered ${status}`);
}

function noAccess(headers: Headers, { page, endpoint, token }: Asker): string {
  const tokens = `${endpoint}/settings/tokens`;
  if (headers.get("x-error-code") === "GatedRepo")
    return token
      ? `a gated repository that the token has no access to. Accept its conditions at ${page}, with the account of the token`
      : `a gated repository. Accept its conditions at ${page}, then set HF_TOKEN to a token from ${tokens}`;
  // Without a token the Hub does not say whether a private repository exists.
  return token
    ? `no access with this token (HF_TOKEN, or the one that \`hf auth login\` saved). See ${page} and ${tokens}`
    : `no such repository, or one that needs a token: set HF_TOKEN to one from ${tokens}. See ${page}`;
}

/** Retry-After in seconds or as a date, or the Hub's own RateLimit: `"api";r=0;t=55`. */
function askedWait(headers: Headers): number {
  const after = headers.get("retry-after")?.trim();
  if (after) {
    const seconds = Number(after);
    const ms = Number.isNaN(seconds) ? Date.parse(after) - Date.now() : seconds * 1000;
    return Number.isFinite(ms) ? Math.max(0, ms) : 0;
  }
  const reset = /;\s*t=(\d{1,9})/.exec(headers.get("ratelimit") ?? "");
  return reset ? Number(reset[1]) * 1000 : 0;
}
