/**
 * Typed lines -> messages: a line that ends in a backslash continues, and """ opens a text of many lines that
 * ends with """.
 */
const QUOTES = '"""';

export class MessageLines {
  #lines: string[] = [];
  #isQuoted = false;

  /** A message has begun and is not complete. */
  get isOpen(): boolean {
    return this.#isQuoted || this.#lines.length > 0;
  }

  /** The message that this line completes; null: it continues. */
  add(line: string): string | null {
    if (!this.isOpen && line.trimStart().startsWith(QUOTES)) {
      this.#isQuoted = true;
      line = line.trimStart().slice(QUOTES.length);
      // """ alone on the opening line would make an empty first line.
      if (line.trim() === "") return null;
    }
    if (this.#isQuoted) {
      const isLast = line.trimEnd().endsWith(QUOTES);
      const text = isLast ? line.trimEnd().slice(0, -QUOTES.length) : line;
      // Likewise for """ alone on the last line.
      if (!(isLast && text === "" && this.#lines.length > 0)) this.#lines.push(text);
      return isLast ? this.take() : null;
    }
    // Two backslashes are a literal backslash.
    const backslashes = /\\*$/.exec(line)?.[0].length ?? 0;
    const goesOn = backslashes % 2 === 1;
    this.#lines.push(goesOn ? line.slice(0, -1) : line);
    return goesOn ? null : this.take();
  }

  /** Returns what there is, complete or not, and starts again. */
  take(): string {
    const message = this.#lines.join("\n");
    this.#lines = [];
    this.#isQuoted = false;
    return message;
  }
}
