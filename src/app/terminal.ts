/**
 * What a terminal gets to see. Texts of models, files, drivers and servers may hold escape sequences, which set titles,
 * fill the clipboard or paint over what was said: on a terminal they are shown and not sent. Everything that is written
 * goes through `forStream`; a pipe or a file gets its bytes as they are.
 */

/** One line: control characters are shown, line ends among them. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not reach the terminal
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, (c) =>
    JSON.stringify(c)
      .slice(1, -1)
      .replace(/^[^\\]$/, escapeHex),
  );
}

/** Likewise, but line ends and tabs stay. */
export function visible(text: string): string {
  return text.replace(/[^\n\t]+/g, printable);
}

export function forStream(stream: { readonly isTTY?: boolean }, text: string): string {
  return stream.isTTY ? visible(text) : text;
}

function escapeHex(c: string): string {
  return `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
