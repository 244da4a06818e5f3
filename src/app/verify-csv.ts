/** Rows of a study as CSV (RFC 4180): one line for each measurement, always with the same columns. */
import type { VerifyRow } from "../index.ts";

const COLUMNS = [
  ...["model", "kv", "kind", "layer", "depth", "tokens", "positions", "perplexity"],
  ...["meanKl", "meanKlLow", "meanKlHigh", "medianKl", "kl90", "kl99", "kl999", "maxKl", "sameTop"],
  ...["right", "asked"],
] as const;

export function verifyCsv(model: string, rows: readonly VerifyRow[]): string {
  const lines = rows.flatMap((row) => {
    if (row.kind === "format" || row.kind === "verdict") return [];
    const { divergence, ...own } = "divergence" in row ? row : { divergence: null, ...row };
    const [meanKlLow, meanKlHigh] = divergence?.meanKlInterval ?? [];
    const cells: { [name: string]: unknown } = { model, ...own, ...divergence, meanKlLow, meanKlHigh };
    return [COLUMNS.map((name) => cell(cells[name])).join(",")];
  });
  return `${[COLUMNS.join(","), ...lines].join("\r\n")}\r\n`;
}

/** null (the depth of all depths together) and missing values are empty. */
function cell(value: unknown): string {
  if (value === undefined || value === null) return "";
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
