/**
 * Files that are put into a conversation: text, and the words of PDF and DOCX, whose readers are loaded when a file needs
 * them. Decides what counts as text and how large it may be. One idea: a file is refused by name with the reason, and never
 * included in part.
 */
import { bytes as inBytes } from "../../src/page.ts";

export interface TextDocument {
  readonly name: string;
  readonly bytes: number;
  readonly text: string;
  /** null: not counted yet. */
  readonly tokens: number | null;
  /** false: `tokens` is a rule of thumb. */
  readonly isExact: boolean;
}

/** About two million tokens: more than any context, and as much as a page can hold without becoming slow. */
export const MOST_BYTES = 8 * 2 ** 20;

export class DocumentError extends Error {}

/** Rejects with DocumentError, whose message begins with the file's name. */
export async function readDocument(file: File): Promise<TextDocument> {
  const { name, size } = file;
  const start = await file
    .slice(0, 4)
    .text()
    .catch(() => "");
  const isPacked = start === "%PDF" || start === "PK\x03\x04";
  if (!isPacked) checkSize(name, size);
  const bytes = new Uint8Array(
    await file.arrayBuffer().catch((cause) => {
      throw new DocumentError(`${name} cannot be read (${(cause as Error).message}).`);
    }),
  );
  if (bytes.length === 0) throw new DocumentError(`${name} is empty.`);
  const text = isPacked ? await unpackedText(name, bytes) : textOf(name, bytes);
  if (isPacked) checkSize(name, text.length);
  return { name, bytes: size, text, tokens: null, isExact: false };
}

function checkSize(name: string, size: number): void {
  if (size > MOST_BYTES)
    throw new DocumentError(
      `${name} has ${inBytes(size)}; a document may have ${inBytes(MOST_BYTES)}. Attach the part that matters.`,
    );
}

async function unpackedText(name: string, bytes: Uint8Array): Promise<string> {
  try {
    const { documentText } = await import("../../src/format/documents.ts");
    return await documentText(name, bytes);
  } catch (error) {
    throw new DocumentError((error as Error).message);
  }
}

function textOf(name: string, bytes: Uint8Array): string {
  const refuse = () =>
    new DocumentError(`${name} is not a text file (${kindOf(bytes)}). Save it as plain text first.`);
  // NUL is valid UTF-8, but no text contains it.
  if (bytes.includes(0) && !isUtf16(bytes)) throw refuse();
  try {
    const decoder = new TextDecoder(
      isUtf16(bytes) ? (bytes[0] === 0xff ? "utf-16le" : "utf-16be") : "utf-8",
      {
        fatal: true,
      },
    );
    return decoder.decode(bytes);
  } catch {
    throw refuse();
  }
}

/** By its byte order mark, which Windows writes. */
function isUtf16([a, b]: Uint8Array): boolean {
  return (a === 0xff && b === 0xfe) || (a === 0xfe && b === 0xff);
}

const KINDS: readonly (readonly [start: string, kind: string])[] = [
  ["\x89PNG", "a picture"],
  ["\xff\xd8\xff", "a picture"],
  ["GIF8", "a picture"],
  ["GGUF", "a model; load it under Model"],
];

function kindOf(bytes: Uint8Array): string {
  const start = String.fromCharCode(...bytes.subarray(0, 4));
  return KINDS.find(([mark]) => start.startsWith(mark))?.[1] ?? "it has bytes that are no UTF-8";
}
