/**
 * From an error to one line on stderr and an exit code. Scripts may rely on the codes; tests check the table.
 */
import { type Command, CommanderError } from "commander";
import { AbortedError, ArgumentError, type ErrorCode, MemoryError, NibbleError } from "../index.ts";
import { printable, visible } from "./terminal.ts";

/** For --help, in the order of the numbers. */
export const EXIT_CODES: readonly (readonly [number, string])[] = [
  [0, "done"],
  [1, "the model, a file or the device has an error"],
  [2, "wrong usage: an unknown option, or a value out of its range"],
  [3, "does not fit: memory, or a prompt longer than the context"],
  [130, "stopped by Ctrl-C (143: by SIGTERM)"],
];

const BY_ERROR: Readonly<Record<ErrorCode, number>> = {
  format: 1,
  unsupported: 1,
  device: 1,
  io: 1,
  busy: 1,
  argument: 2,
  memory: 3,
  context: 3,
  aborted: 130,
};

/** Its message is printed already, where it happened; only the exit code is left. */
export class PrintedError extends Error {
  constructor(override readonly cause: unknown) {
    super("printed already");
  }
}

/** Prints the error unless it needs no message, and returns the exit code. `NIBBLE_DEBUG=1` adds the stack. */
export function report(error: unknown, program: Command, signal: AbortSignal): number {
  // Commander has printed its message; its own code for wrong usage is 1.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof AbortedError && signal.aborted) return signal.reason;
  if (error instanceof PrintedError) return exitCode(error.cause);
  printMessage(error, line(error, program));
  return exitCode(error);
}

/** One line on stderr, and the stack on request. Messages may quote files and templates, and logs are read, too. */
export function printMessage(error: unknown, text = messageOf(error)): void {
  process.stderr.write(`nibble: ${printable(text)}\n`);
  if (process.env.NIBBLE_DEBUG === "1" && error instanceof Error)
    process.stderr.write(`${visible(`${error.stack}`)}\n`);
}

function exitCode(error: unknown): number {
  return error instanceof NibbleError ? BY_ERROR[error.code] : 1;
}

/** Without line breaks: one error is one line. */
function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/\s*\n\s*/g, " ") || "unknown error";
}

function named({ commands }: Command, name: string | undefined): Command | undefined {
  return commands.find((command) => command.name() === name);
}

function line(error: unknown, program: Command): string {
  if (error instanceof ArgumentError) {
    // The library says `topP`; the command line says --top-p.
    const [name, inner] = program.args;
    const command = named(program, name);
    const options = [...(command?.options ?? []), ...((command && named(command, inner))?.options ?? [])];
    const flag = options.find((option) => option.attributeName() === error.argument)?.long;
    if (flag) return `${flag} is ${String(error.found)}; allowed: ${error.allowed}`;
  }
  if (error instanceof MemoryError && error.source)
    return `${messageOf(error)} --memory overrules what ${error.source} says.`;
  return messageOf(error);
}
