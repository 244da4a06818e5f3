/** Numbers for people: bytes in powers of 1,024, thousands separated, rates with no more digits than were measured. */

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

/** Tokens per second, to a hundredth; null if no time was measured. */
export function rate(tokens: number, ms: number): number | null {
  return tokens > 0 && ms > 0 ? Math.round((tokens * 100_000) / ms) / 100 : null;
}

export function perSecond(tokens: number, ms: number): string {
  const found = rate(tokens, ms);
  if (found === null) return "";
  return ` at ${rounded(found)} tokens/s`;
}

/** How many guessed tokens were right; "" if none was guessed. */
export function guessedWords(counts: { draftedTokens: number; acceptedTokens: number }): string {
  const { draftedTokens: drafted, acceptedTokens: accepted } = counts;
  return drafted > 0 ? `${grouped(accepted)} of ${grouped(drafted)} guessed tokens right` : "";
}

/** Three significant digits, or whole numbers from 100 on. */
export function rounded(found: number): string {
  return found >= 100 ? grouped(Math.round(found)) : found.toPrecision(3);
}

/** A line of a table: the first cell is text, aligned left; the others are numbers, aligned right. */
export function columns(cells: readonly string[], widths: readonly number[]): string {
  return cells
    .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
    .join(" ")
    .trimEnd();
}
