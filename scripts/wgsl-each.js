/**
 * Unrolled code of kernels, written once. What a kernel holds in registers has a name each (q0, q1, ...), since what a loop
 * indexes may live in memory; a block between these two lines is copied for every value of its letter:
 *
 *     // each G 0..3 if GROUPS > G
 *     key{G} = keyCodes(keyBlock, {G}u, lane + {32 * G}u);
 *     // end
 *
 * An expression in braces is computed, and ` + 0u` that comes of one is left out. With `if`, copies of G above 0 stand in
 * `if (GROUPS > 1u) { ... }`; the first is always needed. Blocks may stand in blocks. What is generated is true WGSL:
 * `nibble doctor --kernels FOLDER` writes it.
 */

const BEGIN = /^( *)\/\/ each ([A-Z]) (\d+)\.\.(\d+)(?: if (.+))?$/;
const END = /^ *\/\/ end$/;

/** Throws Error with the file and line of a block that does not end, or of an end without a block. */
export function expandEach(name, text) {
  const lines = text.split("\n");
  const [expanded, at] = block(name, lines, 0, null);
  if (at < lines.length) throw new Error(`${name}.wgsl:${at + 1}: "// end" without "// each"`);
  return expanded.join("\n");
}

/** Lines from `at` to the end of the block, or of the file where `begun`, the line that began it, is null. */
function block(name, lines, at, begun) {
  const out = [];
  while (at < lines.length && !END.test(lines[at])) {
    const head = BEGIN.exec(lines[at]);
    if (!head) {
      out.push(lines[at++]);
      continue;
    }
    const [, indent, letter, first, last, condition] = head;
    const [body, end] = block(name, lines, at + 1, at);
    for (let value = Number(first); value <= Number(last); value++) {
      const copy = body.map((line) => withValue(line, letter, value));
      if (condition === undefined || value === 0) out.push(...copy);
      else {
        const test = withValue(
          condition.replace(new RegExp(`\\b${letter}\\b`), `{${letter}}u`),
          letter,
          value,
        );
        out.push(`${indent}if (${test}) {`, ...copy.map((line) => line && `  ${line}`), `${indent}}`);
      }
    }
    at = end + 1;
  }
  if (begun !== null && at === lines.length)
    throw new Error(`${name}.wgsl:${begun + 1}: no "// end" for this "// each"`);
  return [out, at];
}

/** Expressions that are not known yet keep their braces: an outer block has the other letter. */
function withValue(line, letter, value) {
  return line.replace(/( \+ )?\{([+* \dA-Z]+)\}(u( \* \w+)?)?/g, (_, plus = "", expression, unit = "") => {
    const known = expression.replace(new RegExp(`\\b${letter}\\b`, "g"), String(value));
    if (/[A-Z]/.test(known)) return `${plus}{${known}}${unit}`;
    const result = arithmetic(known);
    return plus !== "" && result === 0 ? "" : `${plus}${result}${unit}`;
  });
}

/** Of whole numbers: sums of products, without brackets. */
function arithmetic(text) {
  const terms = text.split("+").map((term) => {
    const factors = term.split("*").map((factor) => Number(factor.trim() || Number.NaN));
    return factors.reduce((product, factor) => product * factor, 1);
  });
  const sum = terms.reduce((a, b) => a + b, 0);
  if (!Number.isInteger(sum))
    throw new Error(`{${text}} in an "// each" block is no sum of products of numbers`);
  return sum;
}
