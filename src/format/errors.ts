/**
 * The errors that leave Nibble. Each is thrown once, where the bad thing enters, and builds its message from
 * fields: the thing, what was found, what is allowed, the way out. `code` lets a server choose a status and the
 * command line an exit code without reading text.
 */
export type ErrorCode =
  | "format"
  | "unsupported"
  | "argument"
  | "memory"
  | "context"
  | "device"
  | "io"
  | "busy"
  | "aborted";

export class NibbleError extends Error {
  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A file that is damaged, hostile or not of the kind its name promises. `place` names file, key or byte offset. */
export class FormatError extends NibbleError {
  constructor(
    readonly place: string,
    readonly found: string,
    readonly allowed?: string,
    options?: ErrorOptions,
  ) {
    super("format", `${place}: ${found}${allowed ? `; allowed: ${allowed}` : ""}`, options);
  }
}

/** Something well formed that this version cannot do: an architecture, a tensor type, a RoPE scaling. */
export class UnsupportedError extends NibbleError {
  constructor(
    readonly thing: string,
    readonly wayOut?: string,
  ) {
    super("unsupported", `${thing} is not supported${wayOut ? `. ${wayOut}` : ""}`);
  }
}

/** An argument out of its range. */
export class ArgumentError extends NibbleError {
  constructor(
    readonly argument: string,
    readonly found: unknown,
    readonly allowed: string,
  ) {
    super("argument", `${argument} is ${String(found)}; allowed: ${allowed}`);
  }
}

/** The device failed or is missing. */
export class DeviceError extends NibbleError {
  constructor(
    readonly device: string,
    found: string,
    options?: ErrorOptions,
  ) {
    super("device", `${device}: ${found}`, options);
  }
}

/** The caller's AbortSignal fired; nothing is half-done. */
export class AbortedError extends NibbleError {
  constructor(readonly doing: string) {
    super("aborted", `${doing} was stopped`);
  }
}

/** Throws AbortedError when the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined, doing: string): void {
  if (signal?.aborted) throw new AbortedError(doing);
}
