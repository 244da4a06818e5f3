/**
 * Errors as OpenAI's clients read them: a status and {"error": {message, type, param, code}}. Converts any
 * error to that form. An error that is not a NibbleError is a bug of ours: it is logged, and the client
 * gets only the status.
 */
import { BusyError, PlaceError } from "../../answer/errors.ts";
import { AbortedError, type ErrorCode, NibbleError } from "../../index.ts";

export { badValue, unsupported } from "../../answer/errors.ts";

export interface ApiErrorFields {
  /** The place in the request: "messages[0].content". */
  param?: string | null;
  /** For programs: "context_length_exceeded". */
  code?: string | null;
  headers?: Readonly<Record<string, string>>;
}

/** Names of fields come from the request, and may have any length. */
const LONGEST_MESSAGE = 600;
const LONGEST_PARAM = 200;

export class ApiError extends Error {
  readonly param: string | null;
  readonly code: string | null;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    readonly status: number,
    message: string,
    { param = null, code = null, headers = {} }: ApiErrorFields = {},
  ) {
    super(short(message, LONGEST_MESSAGE));
    this.param = param && short(param, LONGEST_PARAM);
    this.code = code;
    this.headers = headers;
  }

  toJSON() {
    const { message, param, code } = this;
    return { error: { message, type: typeOf(this.status), param, code } };
  }
}

/** Its beginning and its end. */
function short(text: string, most: number): string {
  const half = Math.floor(most / 2);
  return text.length > most ? `${text.slice(0, half - 3)}...${text.slice(-half)}` : text;
}

const TYPES: Readonly<Record<number, string>> = {
  401: "authentication_error",
  403: "permission_error",
  429: "rate_limit_error",
};

function typeOf(status: number): string {
  return TYPES[status] ?? (status < 500 ? "invalid_request_error" : "server_error");
}

/** By the code of a NibbleError that a request runs into. Templates refuse messages with "unsupported" or "format". */
const STATUS: Readonly<Record<ErrorCode, number>> = {
  argument: 400,
  context: 400,
  format: 400,
  unsupported: 400,
  memory: 500,
  device: 500,
  io: 500,
  busy: 503,
  aborted: 503,
};

const CODES: Readonly<Partial<Record<ErrorCode, string>>> = { context: "context_length_exceeded" };

/** log: called with internal errors. */
export function toApiError(error: unknown, log: (error: unknown) => void): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof AbortedError)
    return new ApiError(503, "the server is shutting down", { code: "stopped" });
  if (error instanceof PlaceError) {
    const code = error.code === "unsupported" ? "unsupported_parameter" : null;
    return new ApiError(400, error.message, { param: error.place, code });
  }
  if (error instanceof BusyError)
    return new ApiError(503, error.message, {
      code: "queue_full",
      headers: { "retry-after": `${error.retrySeconds}` },
    });
  if (error instanceof NibbleError) {
    const status = STATUS[error.code];
    if (status >= 500) log(error);
    return new ApiError(status, error.message, { code: CODES[error.code] ?? null });
  }
  log(error);
  return new ApiError(500, "an error inside the server; its log has it");
}

export function errorResponse(error: ApiError): Response {
  return Response.json(error, { status: error.status, headers: error.headers });
}
