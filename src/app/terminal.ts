/**
 * Output to terminals. Texts of models, files, drivers and servers may contain escape sequences, which set titles,
 * fill the clipboard or overwrite earlier output: on a terminal they are made visible instead. All output
 * goes through `forStream`; a pipe or a file gets the bytes unchanged.
 */

/** One line: control characters are made visible, including line breaks. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not reach the terminal
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, (c) =>
    JSON.stringify(c)
      .slice(1, -1)
      .replace(/^[^\\]$/, escapeHex),
  );
}

/** Likewise, but line breaks and tabs stay. */
export function visible(text: string): string {
  return text.replace(/[^\n\t]+/g, printable);
}

export function forStream(stream: { readonly isTTY?: boolean }, text: string): string {
  return stream.isTTY ? visible(text) : text;
}

function escapeHex(c: string): string {
  return `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
