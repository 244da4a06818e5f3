/**
 * Bytes and their spellings in vocabularies: GPT-2's alphabet, in which every byte is one printable character, and
 * SentencePiece's byte tokens ("<0xE2>").
 */

/**
 * GPT-2's alphabet: the character for each byte. Printable Latin-1 stands for itself, other bytes are mapped from
 * U+0100 on.
 */
const BYTE_CHARACTERS: readonly string[] = makeAlphabet();

const UNITS = BYTE_CHARACTERS.map((character) => character.charCodeAt(0));

const BYTE_OF = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));

function makeAlphabet(): string[] {
  const alphabet: string[] = [];
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const itself = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    alphabet.push(String.fromCharCode(itself ? byte : next++));
  }
  return alphabet;
}

const encoder = new TextEncoder();

/** A word in GPT-2's alphabet. */
export function spellBytes(word: string): string {
  const bytes = encoder.encode(word);
  let spelled = "";
  // Not character by character: a long word would become an equally long chain of string parts.
  for (let at = 0; at < bytes.length; at += 1024)
    spelled += String.fromCharCode(...Array.from(bytes.subarray(at, at + 1024), (byte) => UNITS[byte]));
  return spelled;
}

/**
 * The bytes of a token in GPT-2's alphabet. A character outside of it (in an added token's plain text) stands for
 * itself.
 */
export function unspellBytes(text: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of text) {
    const byte = BYTE_OF.get(character);
    if (byte === undefined) bytes.push(...utf8Bytes(character));
    else bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

/** The byte of "<0xE2>", or -1. */
export function byteOfToken(text: string): number {
  return /^<0x[0-9A-Fa-f]{2}>$/.test(text) ? Number.parseInt(text.slice(3, 5), 16) : -1;
}

/** UTF-8; a lone surrogate U+DC80 to U+DCFF is the byte that `decodeLenient` (utf8.ts) made it from. */
export function utf8Bytes(text: string): Uint8Array {
  if (!/[\uDC80-\uDCFF]/u.test(text)) return encoder.encode(text);
  const bytes: number[] = [];
  for (const character of text) {
    const unit = character.charCodeAt(0);
    if (character.length === 1 && unit >= 0xdc80 && unit <= 0xdcff) bytes.push(unit - 0xdc00);
    else bytes.push(...encoder.encode(character));
  }
  return Uint8Array.from(bytes);
}
