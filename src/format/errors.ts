/**
 * The errors that leave Nibble. Each is thrown once, where the bad input enters, and builds its message from fields:
 * the thing, what was found, what is allowed, the way out. From `code` a server chooses a status and the command line
 * an exit code, without parsing text.
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

/** Every error that Nibble throws on purpose: `code` is its kind; the message says what was found and what to do. */
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

/**
 * A file that is damaged, hostile or not of the kind that its name promises. `place` names the file, key or byte
 * offset.
 */
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

/** An argument that is out of range. */
export class ArgumentError extends NibbleError {
  constructor(
    readonly argument: string,
    readonly found: unknown,
    readonly allowed: string,
  ) {
    super("argument", `${argument} is ${String(found)}; allowed: ${allowed}`);
  }
}

/** The plan does not fit the device or the memory, as a whole or because of one buffer. */
export class MemoryError extends NibbleError {
  constructor(
    readonly needBytes: number,
    readonly limitBytes: number,
    /** The tokens of context that were asked for, or of the cache if that was asked for. */
    readonly context: number,
    /** The tokens that would fit; 0: none. */
    readonly largestContext: number,
    need: string,
    wayOut: string,
    /**
     * The source of the memory size, for example "nvidia-smi"; "" if the caller gave it or memory is not what is short.
     */
    readonly source: string,
  ) {
    super("memory", `${need}. ${wayOut}`);
  }
}

/** More tokens than the context holds. */
export class ContextError extends NibbleError {
  constructor(
    readonly tokens: number,
    readonly context: number,
  ) {
    super(
      "context",
      `${tokens} tokens do not fit the context of ${context}. Ask for a longer context or shorten the prompt.`,
    );
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

/** A row of logits from which no token can be chosen. */
export class LogitsError extends NibbleError {
  /**
   * position: of the token after which the logits predict. id: the first token with a wrong logit; null: all are
   * -Infinity.
   */
  constructor(
    readonly position: number,
    readonly id: number | null,
    readonly logit: number,
  ) {
    const what = id === null ? "all -Infinity" : `not all finite numbers: token ${id} has ${logit}`;
    super(
      "device",
      `the model's logits at position ${position} are ${what}. The file's weights are damaged, or activations exceed the range of the device: download the file again, or try another --device.`,
    );
  }
}

/** The caller's AbortSignal fired; nothing is left half done. */
export class AbortedError extends NibbleError {
  constructor(readonly doing: string) {
    super("aborted", `${doing} was stopped`);
  }
}

/** Throws AbortedError if the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined, doing: string): void {
  if (signal?.aborted) throw new AbortedError(doing);
}
