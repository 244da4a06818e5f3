/**
 * UTF-8 strings of a vocabulary. Bytes that are not UTF-8 are kept as in Python's "surrogateescape": byte 0xNN becomes
 * the lone surrogate U+DCNN, so that different byte strings stay different strings and no token silently equals
 * another. A byte order mark is kept: it is a token in some vocabularies.
 */
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Most tokens are short ASCII, which is faster to build here than with TextDecoder. */
const SHORT = 24;

export function decodeLenient(bytes: Uint8Array): string {
  if (bytes.length <= SHORT) {
    const ascii = decodeAscii(bytes);
    if (ascii !== null) return ascii;
  }
  try {
    return strict.decode(bytes);
  } catch {
    return decodeEscaped(bytes);
  }
}

function decodeAscii(bytes: Uint8Array): string | null {
  let text = "";
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] > 127) return null;
    text += String.fromCharCode(bytes[i]);
  }
  return text;
}

function decodeEscaped(bytes: Uint8Array): string {
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes[at]);
    const part = length === 0 ? null : decodeOne(bytes.subarray(at, at + length));
    parts.push(part ?? String.fromCharCode(0xdc00 + bytes[at]));
    at += part === null ? 1 : length;
  }
  return parts.join("");
}

/** Bytes of the sequence that this byte opens; 0 if it opens none. */
function sequenceLength(first: number): number {
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

function decodeOne(bytes: Uint8Array): string | null {
  try {
    return strict.decode(bytes);
  } catch {
    return null;
  }
}
