/**
 * One line about a cache format, from its measurements. Pure. KL is compared with llama.cpp's figures for quantized
 * weights of Llama 3 8B against f16 (tools/perplexity/README.md): q6_K 0.0055, regarded as lossless; q4_K_M 0.031, the
 * most common; q3_K_M 0.102, noticeable. The worst depth counts: a format that fails far into a document is useless
 * there. A model that cannot predict the text at all (perplexity beyond its vocabulary, worse than guessing) is judged
 * by its own answers.
 */
import type { AnswerRow, DepthRow, Grade, NeedleRow, Verdict, VerifyRow } from "./verify-rows.ts";

/** The largest mean KL of each grade, in nats. */
export const GRADES: readonly (readonly [grade: Grade, mostKl: number, like: string])[] = [
  ["as f16", 0.006, "no more than what q6_K weights cost Llama 3 8B"],
  ["good", 0.032, "no more than what q4_K_M weights cost Llama 3 8B"],
  ["fair", 0.11, "as much as q3_K_M weights cost Llama 3 8B"],
  ["poor", Number.POSITIVE_INFINITY, "more than what q3_K_M weights cost Llama 3 8B"],
];

/** Below this share with f16 the model cannot find needles at all, so they say nothing about a format. */
const CAN = 0.5;

/** rows: of this format; overF16: of f16, which may be the same. */
export function verdict(
  kv: string,
  rows: readonly VerifyRow[],
  overF16: readonly VerifyRow[],
  vocab: number,
): Verdict {
  const perplexity = Math.max(...overF16.filter(isDepth).map((row) => row.perplexity));
  const predicts = perplexity <= vocab;
  const [found, base] = [needles(rows), needles(overF16)];
  const can = base.asked > 0 && base.right >= CAN * base.asked;
  const cannot = `needles say nothing: over f16 it finds ${base.right} of ${base.asked}`;
  const unread = `the model cannot predict this text (perplexity ${perplexity.toPrecision(2)})`;
  if (kv === "f16") {
    const parts = ["what the others are compared with"];
    if (!predicts) parts.push(unread);
    if (base.asked > 0) parts.push(can ? `finds ${base.right} of ${base.asked} needles` : cannot);
    return { kind: "verdict", kv, grade: "reference", text: parts.join("; ") };
  }
  const judged = predicts ? rows.filter(isDepth) : rows.filter((row) => row.kind === "answer");
  const compared = judged.flatMap((row) =>
    row.divergence ? [{ where: place(row), ...row.divergence }] : [],
  );
  const parts = predicts ? [] : [compared.length > 0 ? `judged by its answers, for ${unread}` : unread];
  let at = -1;
  if (compared.length > 0) {
    const worst = compared.reduce((most, row) => (row.meanKl > most.meanKl ? row : most));
    at = GRADES.findIndex(([, most]) => worst.meanKl <= most);
    const same = Math.min(...compared.map(({ sameTop }) => sameTop));
    parts.push(`mean KL up to ${worst.meanKl.toPrecision(2)} (${worst.where}), ${GRADES[at][2]}`);
    parts.push(`the same top token at ${(100 * same).toFixed(1)} % or more`);
  }
  if (can) at = Math.max(at, needleGrade(found.right, base.right));
  if (base.asked > 0)
    parts.push(can ? `${found.right} of ${found.asked} needles, f16 ${base.right}` : cannot);
  return { kind: "verdict", kv, grade: GRADES[at]?.[0] ?? "not judged", text: parts.join("; ") };
}

function isDepth(row: VerifyRow): row is DepthRow {
  return row.kind === "depth" && row.depth !== null;
}

function place(row: DepthRow | AnswerRow): string {
  return row.kind === "depth" ? `from ${row.depth} on` : `in answers after ${row.tokens} tokens`;
}

/**
 * An index of GRADES. Answers near a tie vary, so a tenth of f16's, or one, says nothing; with less than half of them a
 * format is useless for long documents.
 */
function needleGrade(right: number, base: number): number {
  if (right >= base - Math.max(1, 0.1 * base)) return 0;
  return right >= base / 2 ? 2 : 3;
}

function needles(rows: readonly VerifyRow[]): { right: number; asked: number } {
  const own = rows.filter((row): row is NeedleRow => row.kind === "needle");
  const sum = (of: (row: NeedleRow) => number) => own.reduce((all, row) => all + of(row), 0);
  return { right: sum(({ right }) => right), asked: sum(({ asked }) => asked) };
}
