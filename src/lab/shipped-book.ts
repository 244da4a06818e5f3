/** The prose that comes with Nibble (Node only): six chapters of Jane Austen's Persuasion. */
import { readFile } from "node:fs/promises";
import type { Book } from "./texts.ts";

const TEXT = "../../models/texts/persuasion.txt";

export async function shippedBook(): Promise<Book> {
  return { name: "Persuasion", body: await readFile(new URL(TEXT, import.meta.url), "utf8") };
}
