/** Rows of a study as cells of a table, for the terminal and for the page alike. */
import type { AnswerRow, DepthRow, DivergenceSummary, LayerRow } from "../index.ts";
import { grouped } from "../plot/numbers.ts";

export const MEASURED_HEADS = [
  "cache",
  "depth",
  "positions",
  "perplexity",
  "mean KL",
  "median",
  "99.9 %",
  "most",
  "same top token",
];
/** What the heads leave open. */
export const MEASURED_NOTE =
  "KL in nats, its mean with 95 % intervals; @: the answers to questions after that many tokens, or one layer alone in the format";

/** One per head, or four where nothing is compared. */
export function measuredCells(row: DepthRow | AnswerRow | LayerRow): string[] {
  const where =
    row.kind === "answer" ? `@ ${grouped(row.tokens)}` : row.depth === null ? "all" : grouped(row.depth);
  const found = row.divergence;
  return [
    row.kind === "layer" ? `${row.kv} @${row.layer}` : row.kv,
    where,
    grouped(row.positions),
    perplexity(row.perplexity),
    ...(found
      ? [
          interval(found),
          nats(found.medianKl),
          nats(found.kl999),
          nats(found.maxKl),
          `${percent(found.sameTop)} ± ${(100 * found.sameTopError).toFixed(1)}`,
        ]
      : []),
  ];
}

/** The mean and its 95 % interval. */
function interval({ meanKl, meanKlInterval: [low, high] }: DivergenceSummary): string {
  return `${nats(meanKl)} (${nats(low)} to ${nats(high)})`;
}

/** Values of models that cannot predict the text have many digits. */
function perplexity(found: number): string {
  return found >= 1e5 ? found.toExponential(1) : found.toFixed(found < 1000 ? 2 : 0);
}

function nats(kl: number): string {
  return kl >= 10 ? kl.toFixed(1) : kl.toFixed(4);
}

export function percent(share: number, digits = 1): string {
  return `${(100 * share).toFixed(digits)} %`;
}
