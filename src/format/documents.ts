/**
 * Documents as text: plain text, and the words of PDF and DOCX files. The kind is detected from the first bytes, and
 * sizes are bounded so that a hostile file cannot fill memory. The readers (unpdf, mammoth) are optional packages,
 * loaded when a file needs one. Scanned pages contain no words.
 */
import { FormatError, UnsupportedError } from "./errors.ts";

/** A PDF of 3,000 pages of text is near 30 MB. */
const MOST_BYTES = 200 * 2 ** 20;
/** The limit for a DOCX's unpacked parts: a zip file's content can be a thousand times its size. */
const MOST_UNPACKED = 500 * 2 ** 20;

/**
 * The text of a file's bytes. Throws FormatError if it is damaged, too large or has no text, UnsupportedError if it is
 * of another kind or has no reader installed.
 */
export async function documentText(name: string, bytes: Uint8Array): Promise<string> {
  const start = String.fromCharCode(...bytes.subarray(0, 8));
  if (start.startsWith("%PDF-")) return pdfText(name, checked(name, bytes));
  if (start.startsWith("PK\x03\x04")) return docxText(name, checked(name, bytes));
  if (start.startsWith("\xd0\xcf\x11\xe0"))
    throw new UnsupportedError(`${name}: a file of Word before 2007`, "Save it as .docx or as text.");
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(name, "bytes that are not UTF-8", "text, PDF or DOCX", { cause });
  }
}

function checked(name: string, bytes: Uint8Array): Uint8Array {
  if (bytes.length <= MOST_BYTES) return bytes;
  throw new FormatError(name, `${bytes.length} bytes`, `${MOST_BYTES}; save its text instead`);
}

/** One blank line between pages. */
async function pdfText(name: string, bytes: Uint8Array): Promise<string> {
  const { extractText, getDocumentProxy } = await reader(name, "PDF", () => import("unpdf"), "unpdf");
  const pages = await damaged(name, "PDF", async () => {
    // The reader detaches the buffer.
    const document = await getDocumentProxy(new Uint8Array(bytes), { isEvalSupported: false, verbosity: 0 });
    try {
      return (await extractText(document, { mergePages: false })).text;
    } finally {
      await document.destroy();
    }
  });
  const text = pages.map((page) => page.trim()).filter((page) => page !== "");
  if (text.length > 0) return text.join("\n\n");
  throw new FormatError(
    name,
    `a PDF of ${pages.length} pages without text`,
    "one whose words can be selected; scans need OCR first",
  );
}

async function docxText(name: string, bytes: Uint8Array): Promise<string> {
  const unpacked = unpackedBytes(bytes);
  if (unpacked === null)
    throw new UnsupportedError(`${name}: a zip archive that is no DOCX`, "Supported: text, PDF and DOCX.");
  if (unpacked > MOST_UNPACKED)
    throw new FormatError(name, `parts of ${unpacked} bytes`, `${MOST_UNPACKED}; save its text instead`);
  const { default: mammoth } = await reader(name, "DOCX", () => import("mammoth"), "mammoth");
  const arrayBuffer = new Uint8Array(bytes).buffer;
  const { value } = await damaged(name, "DOCX", () =>
    // Node's build reads `buffer`, the browser build `arrayBuffer`.
    mammoth.extractRawText({ arrayBuffer, buffer: globalThis.Buffer?.from(arrayBuffer) } as never),
  );
  const text = value.replace(/\n{3,}/g, "\n\n").trim();
  if (text === "") throw new FormatError(name, "a DOCX without text");
  return text;
}

/** The unpacked size of a DOCX according to its central directory; null if it has no word/document.xml. */
function unpackedBytes(bytes: Uint8Array): number | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  // The end of the directory is in the last 64 KiB, before a comment of any length.
  let end = -1;
  for (let at = bytes.length - 22; at >= Math.max(0, bytes.length - 22 - 65_535); at--)
    if (view.getUint32(at, true) === 0x06054b50) {
      end = at;
      break;
    }
  if (end < 0) return null;
  let at = view.getUint32(end + 16, true);
  let sum = 0;
  let isWord = false;
  const utf8 = new TextDecoder();
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    if (at + 46 > bytes.length || view.getUint32(at, true) !== 0x02014b50) return null;
    sum += view.getUint32(at + 24, true);
    const length = view.getUint16(at + 28, true);
    isWord ||= utf8.decode(bytes.subarray(at + 46, at + 46 + length)) === "word/document.xml";
    at += 46 + length + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
  return isWord ? sum : null;
}

async function reader<Module>(
  name: string,
  kind: string,
  load: () => Promise<Module>,
  packageName: string,
): Promise<Module> {
  try {
    return await load();
  } catch {
    throw new UnsupportedError(
      `${name}: ${kind} without the optional package ${packageName}`,
      `npm install ${packageName}`,
    );
  }
}

async function damaged<Result>(name: string, kind: string, read: () => Promise<Result>): Promise<Result> {
  try {
    return await read();
  } catch (cause) {
    const { name: type = "", message = "" } = cause as Error;
    const isLocked = /password/i.test(`${type} ${message}`);
    const found = isLocked
      ? `a ${kind} that asks for a password`
      : `a damaged ${kind} (${message.split("\n")[0].slice(0, 80)})`;
    throw new FormatError(name, found, undefined, { cause });
  }
}
