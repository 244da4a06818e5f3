/** Errors in what was asked of an answer (a schema, a tool, a choice), with the place where they are. */
import { NibbleError } from "../format/errors.ts";

/** What was asked for and is not possible. `place` says where it stands: "schema.properties.age.minimum". */
export class PlaceError extends NibbleError {
  constructor(
    code: "argument" | "unsupported",
    readonly place: string,
    message: string,
  ) {
    super(code, message);
  }
}

/** A value that is not allowed: the thing, what was found, what is allowed. */
export function badValue(place: string, found: string, allowed: string): PlaceError {
  return new PlaceError("argument", place, `${place} is ${found}; allowed: ${allowed}`);
}

/** Well formed, but not supported. */
export function unsupported(place: string, message: string): PlaceError {
  return new PlaceError("unsupported", place, message);
}

/** Too busy; the same request may succeed later. */
export class BusyError extends NibbleError {
  constructor(
    message: string,
    readonly retrySeconds: number,
  ) {
    super("busy", message);
  }
}
