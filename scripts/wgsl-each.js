/**
 * Unrolled code of kernels, written once. Values that must stay in registers have a name each (q0, q1, ...), since an
 * indexed array may be put into memory. A block between these two lines is copied for every value of its letter:
 *
 *     // each G 0..3 if GROUPS > G
 *     key{G} = keyCodes(keyBlock, {G}u, lane + {32 * G}u);
 *     // end
 *
 * An expression in braces is computed, and a resulting ` + 0u` is left out. With `if`, copies of G above 0 are put into
 * `if (GROUPS > 1u) { ... }`; the first is always needed. Blocks may be nested, and a block `// only G 1..3` appears in
 * the copies for these values only. The result is true WGSL: `nibble doctor --kernels FOLDER` writes it.
 */

const BEGIN = /^( *)\/\/ (each|only) ([A-Z]) (\d+)\.\.(\d+)(?: if (.+))?$/;
const END = /^ *\/\/ end$/;

/** Throws Error with file and line for a block that does not end, or an end without a block. */
export function expandEach(name, text) {
  const lines = text.split("\n");
  const [expanded, at] = block({ name, letters: "", values: [] }, lines, 0, null);
  if (at < lines.length) throw new Error(`${name}.wgsl:${at + 1}: "// end" without "// each"`);
  return expanded.join("\n");
}

/**
 * The lines from `at` to the end of the block that began at line `begun`, or to the end of the file if it is null.
 * place: the file's name, and the letters of the surrounding blocks with their values in this copy.
 */
function block(place, lines, at, begun) {
  const { name, letters, values } = place;
  const out = [];
  while (at < lines.length && !END.test(lines[at])) {
    const head = BEGIN.exec(lines[at]);
    if (!head) {
      out.push(withValues(lines[at++], letters, values));
      continue;
    }
    const [, indent, kind, letter, first, last, condition] = head;
    const begin = at++;
    if (kind === "only") {
      const value = values[letters.indexOf(letter)];
      if (value === undefined)
        throw new Error(`${name}.wgsl:${begin + 1}: "// only ${letter}" outside of "// each ${letter}"`);
      const [body, end] = block(place, lines, at, begin);
      if (value >= Number(first) && value <= Number(last)) out.push(...body);
      at = end + 1;
      continue;
    }
    let end = at;
    for (let value = Number(first); value <= Number(last); value++) {
      const inner = { name, letters: letters + letter, values: [...values, value] };
      const [copy, after] = block(inner, lines, at, begin);
      if (condition === undefined || value === 0) out.push(...copy);
      else {
        const test = condition.replace(new RegExp(`\\b${letter}\\b`), `${value}u`);
        out.push(`${indent}if (${test}) {`, ...copy.map((line) => line && `  ${line}`), `${indent}}`);
      }
      end = after;
    }
    at = end + 1;
  }
  if (begun !== null && at === lines.length)
    throw new Error(`${name}.wgsl:${begun + 1}: no "// end" for this block`);
  return [out, at];
}

/** A line with its expressions computed. */
function withValues(line, letters, values) {
  if (letters === "") return line;
  return line.replace(/( \+ )?\{([+* \dA-Z]+)\}(u( \* \w+)?)?/g, (_, plus = "", expression, unit = "") => {
    const known = expression.replace(/[A-Z]/g, (letter) => values[letters.indexOf(letter)] ?? letter);
    const result = arithmetic(known);
    return plus !== "" && result === 0 ? "" : `${plus}${result}${unit}`;
  });
}

/** Integers: sums of products, without brackets. */
function arithmetic(text) {
  const terms = text.split("+").map((term) => {
    const factors = term.split("*").map((factor) => Number(factor.trim() || Number.NaN));
    return factors.reduce((product, factor) => product * factor, 1);
  });
  const sum = terms.reduce((a, b) => a + b, 0);
  if (!Number.isInteger(sum))
    throw new Error(`{${text}} in an "// each" block is not a sum of products of numbers`);
  return sum;
}
