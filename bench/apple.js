/**
 * Predicts the time of the kernels without integer dot products on Apple GPUs, where none has run yet: instructions
 * counted from the kernels' texts, times the cycles that philipturner/metal-benchmarks measured for each kind on M1 and
 * M2 (an addition, a multiply-add or a bit operation takes one cycle of one of a core's four SIMDs; shifts, conversions
 * and exp2 take four), compared with the time for reading memory. Cores, clocks and bandwidths are from public tables.
 * bench/first-run.js compares measurements with these predictions; lab/LOG.md has the table.
 */

/** GPU cores, GHz, GB/s. The M4's clock is general knowledge; that its cycle counts equal the M1's is a guess. */
export const CHIPS = {
  "M1 Max": { cores: 32, ghz: 1.296, gbps: 400 },
  "M2 Ultra": { cores: 76, ghz: 1.398, gbps: 800 },
  "M4 Max": { cores: 40, ghz: 1.578, gbps: 546 },
};

/** SIMDs of 32 lanes in a core. */
const SIMDS = 4;

/** The fraction of the multiply-add rate that matrices reach: 101.7 of 128 per core and cycle. */
const MATRIX_SHARE = 101.7 / 128;

/**
 * Instructions of a SIMD for 32 tokens of one KV head: int4, 8 query heads of 128. fma: multiply-adds; matrix: those of
 * matrices; simple: other operations of one cycle; slow: of four cycles; local: 16-byte accesses to workgroup memory,
 * not in the sum, since they use a separate pipe.
 */
export const ATTEND = {
  // A word of 8 codes: a shift, 8 and, 8 or, 8 subtractions; 8 multiply-adds, 2 additions and 2 loads for each head. 32
  // words.
  attendDecodeFloat: { fma: 2144, matrix: 0, simple: 1500, slow: 116, local: 566 },
  // A word: as above, and 8 multiply-adds that scale; 128 products of matrices of 16 multiply-adds a lane.
  attendDecodeMatrix8: { fma: 288, matrix: 2048, simple: 856, slow: 56, local: 148 },
  // 65,536 products of int8, emulated: a shift and an arithmetic shift for each operand unless the compiler fuses them to one
  // extraction and hoists the query's, and a multiplication. The lower count: 8 cycles a product.
  attendDecode: { fma: 0, matrix: 0, simple: 900, slow: 4096, local: 300 },
};

/**
 * The same for prompts, for 32 query heads of a KV head (32 rows): eight subgroups' 16 tokens of attendPromptMatrix8,
 * half a workgroup of attendPrompt.
 */
export const ATTEND_PROMPT = {
  // 16 tokens of a subgroup: 64 products of matrices of 16 multiply-adds a lane; 256 codes to floats, a word's eight for a shift, 8 and,
  // 8 or, 8 subtractions, 8 multiply-adds; 8 scores a lane; 36 matrices loaded, of 8 bytes a lane.
  attendPromptMatrix8: { fma: 256, matrix: 8192, simple: 2072, slow: 152, local: 336 },
  // 8,192 multiply-adds, for which 6,144 numbers are read from workgroup memory one by one (4 bytes); codes by conversions, queries
  // staged anew for each block.
  attendPrompt: { fma: 8448, matrix: 0, simple: 3300, slow: 700, local: 6700 },
};
const PROMPT_ROWS = 32;

/**
 * Microseconds of one layer for `queries` new tokens, the last of which attends to `tokens`; keys and values are read
 * once.
 */
export function attendPromptTime(chip, kernel, { tokens, queries, heads, kvHeads }) {
  const { cores, ghz, gbps } = CHIPS[chip];
  const tiles = Math.ceil((queries * heads) / kvHeads / PROMPT_ROWS);
  const work = tiles * kvHeads * ((tokens - queries / 2) / 32) * cycles(ATTEND_PROMPT[kernel]);
  return {
    us: work / (cores * SIMDS * ghz * 1e3),
    floorUs: (tokens * kvHeads * ATTEND_BYTES) / (gbps * 1e3),
  };
}

/**
 * matmulTile8: 32 rows of q4_0 by 32 columns times 32 tokens: 64 matrix products; a lane's weights of a row take 17
 * cycles for four, plus about 10 for addresses and scales; and a token's activations.
 */
const TILE8 = { fma: 32, matrix: 1024, simple: 190, slow: 20 };

/** Microseconds of products of this many q4_0 weights with a prompt's tokens. */
export function promptProductTime(chip, weights, tokens) {
  const { cores, ghz, gbps } = CHIPS[chip];
  const us = ((weights / 1024) * Math.ceil(tokens / 32) * cycles(TILE8)) / (cores * SIMDS * ghz * 1e3);
  return { us, floorUs: (weights * 0.5625) / (gbps * 1e3) };
}

/** For one q4_0 weight and one token: 4 cycles of a unit plus its share of scales and activations. */
export const PRODUCT_CYCLES = { matmulUnpacked: 5.5, matmulVector: 10 };

const cycles = ({ fma, matrix, simple, slow }) => fma + matrix / MATRIX_SHARE + simple + 4 * slow;

/** Bytes of 128 dims at 5 bits, keys and values. */
const ATTEND_BYTES = 2 * (64 + 16);

/** Microseconds of one layer for one token after `tokens`: by instructions, and by memory at its full rate. */
export function attendTime(chip, kernel, { tokens, kvHeads }) {
  const { cores, ghz, gbps } = CHIPS[chip];
  const work = (tokens / 32) * kvHeads * cycles(ATTEND[kernel]);
  return {
    us: work / (cores * SIMDS * ghz * 1e3),
    floorUs: (tokens * kvHeads * ATTEND_BYTES) / (gbps * 1e3),
  };
}

/** Microseconds of a product of this many q4_0 weights with one token. */
export function productTime(chip, kernel, weights) {
  const { cores, ghz, gbps } = CHIPS[chip];
  const us = (weights * PRODUCT_CYCLES[kernel]) / (32 * cores * SIMDS * ghz * 1e3);
  return { us, floorUs: (weights * 0.5625) / (gbps * 1e3) };
}

/** The chip of an adapter's name; null: not known. "Apple M2 Ultra" is known. */
export function chipOf(name) {
  return Object.keys(CHIPS).find((chip) => name.includes(chip)) ?? null;
}

/** Whether a time fits its prediction, the longer of instructions and memory. */
export function verdict(us, { us: instructions, floorUs }) {
  const predicted = Math.max(instructions, floorUs);
  const ratio = us / predicted;
  const word =
    ratio <= 1.3 ? (ratio < 0.7 ? "faster than it should be" : "confirmed") : ratio <= 2 ? "open" : "refuted";
  return { us, predictedUs: predicted, floorUs, ratio, verdict: word };
}

/** The table as text: run `node bench/apple.js`. */
export function table() {
  const lines = [
    "| kernel | cycles | of them slow | 16-byte accesses | chip | instructions, ms | memory, ms |",
  ];
  lines.push("|---|---|---|---|---|---|---|");
  for (const [kernel, counts] of Object.entries(ATTEND))
    for (const chip of Object.keys(CHIPS)) {
      const { us, floorUs } = attendTime(chip, kernel, { tokens: 131_072, kvHeads: 8 });
      const ms = (time) => (time / 1000).toFixed(2);
      lines.push(
        `| ${kernel} | ${Math.round(cycles(counts))} | ${4 * counts.slow} | ${counts.local} | ${chip} | ${ms(us)} | ${ms(floorUs)} |`,
      );
    }
  for (const [kernel, counts] of Object.entries(ATTEND_PROMPT))
    for (const chip of Object.keys(CHIPS)) {
      const { us, floorUs } = attendPromptTime(chip, kernel, {
        ...{ tokens: 32_768, queries: 512, heads: 64, kvHeads: 8 },
      });
      const ms = (time) => (time / 1000).toFixed(2);
      lines.push(
        `| ${kernel} | ${Math.round(cycles(counts))} | ${4 * counts.slow} | ${counts.local} | ${chip} | ${ms(us)} | ${ms(floorUs)} |`,
      );
    }
  return lines.join("\n");
}

if (process.argv[1]?.endsWith("apple.js")) console.log(table());
