/**
 * The user's input from arguments, files and stdin, as a prompt for the library.
 */
import { readFile } from "node:fs/promises";
import { addAbortSignal } from "node:stream";
import {
  AbortedError,
  ArgumentError,
  documentText,
  FormatError,
  NibbleError,
  type Prompt,
  withDocument,
} from "../index.ts";

export interface Input {
  question: string;
  /** Documents joined by an empty line; null: none was given. */
  document: string | null;
  /** The system message. Default: none. */
  system?: string | null;
}

/** Reads the prompt and the documents. NibbleError "io" for a file that cannot be read, FormatError unless UTF-8. */
export async function readInput(
  prompt: string,
  files: readonly string[],
  signal: AbortSignal,
  system: string | null = null,
): Promise<Input> {
  if ([prompt, ...files].filter((name) => name === "-").length > 1)
    throw new ArgumentError("-", "given twice", "stdin for the prompt or for one document");
  const documents: string[] = [];
  for (const file of files) documents.push(await readDocument(file, signal));
  return {
    // A typed or piped line ends with a newline that is not part of the question.
    question: prompt === "-" ? (await readText("-", signal)).replace(/\r?\n$/, "") : prompt,
    document: documents.length > 0 ? documents.join("\n\n") : null,
    system,
  };
}

/** The prompt for `generate`. isText: as text to continue, not as a conversation. */
export function toPrompt({ question, document, system = null }: Input, isText: boolean): Prompt {
  if (system !== null && isText)
    throw new ArgumentError("--system", "given", "none where text goes on without a chat template");
  if (system !== null) {
    const content = document === null ? system : `${system}\n\n${document}`;
    return [
      { role: "system", content },
      { role: "user", content: question },
    ];
  }
  if (document === null) return question;
  return isText ? `${document}\n\n${question}` : withDocument(document)(question);
}

/** Text, PDF or DOCX; "-": stdin. NibbleError "io" for a file that cannot be read, and what `documentText` throws. */
export async function readDocument(file: string, signal: AbortSignal): Promise<string> {
  return documentText(file === "-" ? "stdin" : file, await readBytes(file, signal));
}

/** "-": stdin. NibbleError "io" for a file that cannot be read, FormatError unless UTF-8. */
export async function readText(file: string, signal: AbortSignal): Promise<string> {
  const bytes = await readBytes(file, signal);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(file === "-" ? "stdin" : file, "bytes that are not UTF-8", undefined, { cause });
  }
}

async function readBytes(file: string, signal: AbortSignal): Promise<Uint8Array> {
  const name = file === "-" ? "stdin" : file;
  try {
    return file === "-" ? await readStdin(signal) : await readFile(file, { signal });
  } catch (cause) {
    if (signal.aborted) throw new AbortedError(`reading ${name}`);
    const { code, message } = cause as NodeJS.ErrnoException;
    const reasons: Record<string, string> = { ENOENT: "no such file", EISDIR: "is a folder, not a file" };
    throw new NibbleError("io", `${name}: ${reasons[code ?? ""] ?? message}`, { cause });
  }
}

async function readStdin(signal: AbortSignal): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of addAbortSignal(signal, process.stdin)) chunks.push(chunk);
  return Buffer.concat(chunks);
}
