/**
 * Control tokens in grammars. They have no bytes in a vocabulary, since no text may spell them, but some families write
 * calls with them. The one idea: each one that grammars name is represented by a byte that never occurs in UTF-8, and text
 * tokens with such a byte are left out, so that in a grammar the byte is that token and nothing else.
 */
import { literal } from "./json-rules.ts";

/** What a grammar writes for a control token: its byte, or its text where this vocabulary has no such control token. */
export type Mark = (text: string) => string;

/** Control tokens that grammars name. */
const NAMED: ReadonlySet<string> = new Set([
  // Gemma 4.
  ...["<|tool_call>", "<tool_call|>", '<|"|>'],
  // FunctionGemma.
  ...["<start_function_call>", "<end_function_call>", "<escape>"],
  // gpt-oss.
  ...["<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>"],
]);
const LENGTHS = new Set([...NAMED].map((text) => text.length));

/** From here to 0xFF no byte is part of UTF-8: eight marks, and no family has more. */
const FIRST = 0xf8;
const MOST = 8;

export class Marks {
  readonly #bytes = new Map<string, number>();

  /** The bytes of a token for grammars. spelled: its text, also of a control token; bytes: none of those. */
  bytesOf(spelled: Uint8Array, bytes: Uint8Array): Uint8Array {
    const named = LENGTHS.has(spelled.length) && spelled[0] === 0x3c ? new TextDecoder().decode(spelled) : "";
    if (NAMED.has(named) && this.#bytes.size < MOST && !this.#bytes.has(named)) {
      this.#bytes.set(named, FIRST + this.#bytes.size);
      return Uint8Array.of(this.#bytes.get(named)!);
    }
    // 262,144 tokens are checked, so there is no function call for each byte.
    for (const byte of bytes) if (byte >= FIRST) return NONE;
    return bytes;
  }

  /** Twice in the class: XGrammar would take a single byte as a character (0.1.27). */
  readonly expression: Mark = (text) => {
    const byte = this.#bytes.get(text)?.toString(16);
    return byte === undefined ? literal(text) : `[\\x${byte}\\x${byte}]`;
  };
}

const NONE = new Uint8Array(0);
