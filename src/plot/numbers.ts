/** Numbers as people read them: bytes in powers of 1,024, thousands apart, rates that are no longer than they are exact. */

export function bytes(count: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit++;
  }
  return `${unit === 0 ? count : count.toFixed(count < 100 ? 1 : 0)} ${units[unit]}`;
}

export function grouped(count: number): string {
  return count.toLocaleString("en-US");
}

/** Tokens in a second, to a hundredth; null where nothing was timed. */
export function rate(tokens: number, ms: number): number | null {
  return tokens > 0 && ms > 0 ? Math.round((tokens * 100_000) / ms) / 100 : null;
}

export function perSecond(tokens: number, ms: number): string {
  const found = rate(tokens, ms);
  if (found === null) return "";
  return ` at ${rounded(found)} tokens/s`;
}

/** What guessing ahead brought; "": nothing was guessed. */
export function guessedWords(counts: { draftedTokens: number; acceptedTokens: number }): string {
  const { draftedTokens: drafted, acceptedTokens: accepted } = counts;
  return drafted > 0 ? `${grouped(accepted)} of ${grouped(drafted)} guessed tokens right` : "";
}

/** To three digits, or to whole numbers from 100 on. */
export function rounded(found: number): string {
  return found >= 100 ? grouped(Math.round(found)) : found.toPrecision(3);
}

/** A line of a table: the first cell is text and stands on the left, numbers on the right. */
export function columns(cells: readonly string[], widths: readonly number[]): string {
  return cells
    .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
    .join(" ")
    .trimEnd();
}
