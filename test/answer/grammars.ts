/** Grammars over a small vocabulary, and texts through them: whether one is allowed, or one chosen at random. */
import { expect } from "vitest";
import type { OpenGrammar } from "../../src/answer/grammar/grammar.ts";
import { Grammars } from "../../src/answer/grammar/grammars.ts";
import { schemaSlices } from "../../src/answer/grammar/schema-grammar.ts";
import type { Size } from "../../src/answer/grammar/size.ts";
import { atOnce } from "../../src/format/slices.ts";
import type { Tokenizer } from "../../src/index.ts";
import { random } from "../device/random-tensor.ts";

/** 0 ends, 1 is a control token, then 256 bytes, then some words. */
const WORDS = [
  '{"',
  '":',
  '",',
  '", "',
  "},",
  "  ",
  "\n\n    ",
  "true",
  "false",
  "null",
  "12",
  "abc",
  '"}',
  "é",
  "]",
];
const PIECES = [...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)), ...WORDS.map(bytesOf)];
export const VOCAB = PIECES.length + 2;
export const END = 0;
export const tokenizer = {
  vocab: VOCAB,
  endIds: new Set([END]),
  bytes: (id: number) => PIECES[id - 2] ?? new Uint8Array(0),
} as unknown as Tokenizer;

export const grammars = new Grammars(tokenizer, VOCAB + 40);

/** `schemaSlices` in one go. */
export function schemaGrammar(schema: unknown, place: string, isStrict: boolean, size?: Size): string {
  return atOnce(schemaSlices(schema, place, isStrict, size));
}

export function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export const idOf = (text: string) =>
  2 + PIECES.findIndex((piece) => Buffer.compare(piece, bytesOf(text)) === 0);

export async function allowedIds(grammar: OpenGrammar): Promise<number[]> {
  const mask = (await grammar.allowed()) ?? new Int32Array(0);
  const ids = [];
  for (let id = 0; id < mask.length * 32; id++) if ((mask[id >> 5] >> (id & 31)) & 1) ids.push(id);
  return ids;
}

/** A text that the grammar allows, chosen at random with a will to end; null: it did not in so many tokens. */
export async function walk(schema: unknown, seed: number, isStrict = true): Promise<string | null> {
  const grammar = await grammars.open({ text: schemaGrammar(schema, "schema", isStrict) });
  const next = random(seed);
  const chosen: number[] = [];
  try {
    for (let step = 0; step < 400; step++) {
      const ids = await allowedIds(grammar);
      if (ids.length === 0) throw new Error("no token is allowed");
      expect(Math.max(...ids)).toBeLessThan(VOCAB);
      expect(ids).not.toContain(1);
      if (ids.includes(END)) return Buffer.concat(chosen.map((id) => PIECES[id - 2])).toString("utf8");
      // Single bytes of a longer character may come in a wrong order, which the library lets pass: they become U+FFFD.
      const whole = ids.filter((id) => PIECES[id - 2].length > 1 || PIECES[id - 2][0] < 128);
      // Closers first, and letters rather than control characters, so that most walks end.
      const likely = whole.filter((id) => /^["\]}\w]/.test(Buffer.from(PIECES[id - 2]).toString("latin1")));
      const from = next() < 0.9 && likely.length > 0 ? likely : whole.length > 0 ? whole : ids;
      const closer = ['"', "]", "}", '"}'].map(idOf).find((id) => from.includes(id) && next() < 0.3);
      const id = closer ?? from[Math.floor(next() * from.length)];
      chosen.push(id);
      await grammar.accept(id);
    }
    return null;
  } finally {
    grammar.close();
  }
}

/** Whether the grammar allows this text, and its end behind it. */
export async function accepts(schema: unknown, text: string, isStrict = true): Promise<boolean> {
  const grammar = await grammars.open({ text: schemaGrammar(schema, "schema", isStrict) });
  try {
    for (const byte of bytesOf(text)) {
      if (!(await allowedIds(grammar)).includes(byte + 2)) return false;
      await grammar.accept(byte + 2);
    }
    return (await allowedIds(grammar)).includes(END);
  } finally {
    grammar.close();
  }
}
