/**
 * Formulas in Markdown: $x$, $$x$$, \(x\) and \[x\]. They are taken out before the lexer reads the text, which would see
 * emphasis in their underscores, and stand in it as a mark of private characters. Decides what is a formula and what is an amount
 * of money.
 */

export interface Formula {
  readonly source: string;
  /** Whether the formula has a line of its own. */
  readonly isDisplayed: boolean;
  /** The source text. */
  readonly raw: string;
}

/** Code first, which contains no formulas. Lengths are bounded: an opening mark without an end must not cost the whole text. */
const PARTS = new RegExp(
  [
    /(```[\s\S]*?(?:```|$)|~~~[\s\S]*?(?:~~~|$)|(?<!`)(`+)(?!`)[^\n]{1,1000}?(?<!`)\2(?!`))/,
    /\$\$([^$]{1,2000}?)\$\$/,
    /\\\[((?:[^\\]|\\(?![[\]])){1,2000}?)\\\]/,
    /\\\(((?:[^\\\n]|\\(?![()])){1,1000}?)\\\)/,
    // As in pandoc: no blank inside either mark, no digit after the second.
    /(?<![\\$\w])\$(?![\s$])([^\n$]{1,1000}?)(?<![\s\\])\$(?![\d$])/,
  ]
    .map(({ source }) => source)
    .join("|"),
  "g",
);

const MARK = /\ue000(\d+)\ue001/;

export function takeFormulas(text: string): { text: string; formulas: readonly Formula[] } {
  const formulas: Formula[] = [];
  // A text that has the private characters itself keeps them, and has no formulas.
  if (!/\$|\\[[(]/.test(text) || /[\ue000\ue001]/.test(text)) return { text, formulas };
  const rest = text.replace(
    PARTS,
    (raw, code?: string, _ticks?: string, ...found: (string | undefined)[]) => {
      if (code !== undefined) return raw;
      const [dollars, brackets, parentheses, single] = found;
      const source = dollars ?? brackets ?? parentheses ?? single ?? "";
      formulas.push({ source, isDisplayed: (dollars ?? brackets) !== undefined, raw });
      return `\ue000${formulas.length - 1}\ue001`;
    },
  );
  return { text: rest, formulas };
}

/** A text at its marks: parts of text, and formulas between them. */
export function atFormulas(text: string, formulas: readonly Formula[]): (string | Formula)[] {
  if (formulas.length === 0) return [text];
  return text.split(MARK).map((part, i) => (i % 2 === 0 ? part : (formulas[Number(part)] ?? "")));
}

/** Formulas as they were written, where they are no formulas: in code, addresses and texts that are shown as they stand. */
export function asWritten(text: string, formulas: readonly Formula[]): string {
  return atFormulas(text, formulas)
    .map((part) => (typeof part === "string" ? part : part.raw))
    .join("");
}
