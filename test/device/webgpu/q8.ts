/** The q8 form of activations in TypeScript, written from its description: planes of codes and of facts (lib/q8.wgsl). */

/** x [tokens][cols] -> words: per token three planes of cols / 32 vec4s. */
export function packQ8(x: Float32Array, cols: number): Uint32Array {
  const groups = cols / 32;
  const tokens = x.length / cols;
  const words = new Uint32Array(tokens * groups * 12);
  const bytes = new Int8Array(words.buffer);
  const floats = new Float32Array(words.buffer);
  for (let t = 0; t < tokens; t++)
    for (let g = 0; g < groups; g++) {
      const group = x.subarray(t * cols + g * 32, t * cols + g * 32 + 32);
      const scale = Math.max(...group.map(Math.abs)) / 127;
      const sums = [0, 0];
      group.forEach((value, i) => {
        const code = scale > 0 ? Math.round(value / scale) : 0;
        bytes[((t * 3 + (i >> 4)) * groups + g) * 16 + (i & 15)] = code;
        sums[i >> 4] += code;
      });
      floats.set([scale, scale * sums[0], scale * sums[1], 0], ((t * 3 + 2) * groups + g) * 4);
    }
  return words;
}

/** What the codes stand for: [tokens][cols]. The facts must agree with the codes. */
export function unpackQ8(words: Uint32Array, cols: number): Float32Array {
  const groups = cols / 32;
  const tokens = words.length / groups / 12;
  const bytes = new Int8Array(words.buffer);
  const floats = new Float32Array(words.buffer);
  const out = new Float32Array(tokens * cols);
  for (let t = 0; t < tokens; t++)
    for (let g = 0; g < groups; g++) {
      const facts = floats.subarray(((t * 3 + 2) * groups + g) * 4);
      const sums = [0, 0];
      for (let i = 0; i < 32; i++) {
        const code = bytes[((t * 3 + (i >> 4)) * groups + g) * 16 + (i & 15)];
        out[t * cols + g * 32 + i] = code * facts[0];
        sums[i >> 4] += code;
      }
      const off = Math.abs(sums[0] * facts[0] - facts[1]) + Math.abs(sums[1] * facts[0] - facts[2]);
      if (!(off <= 1e-4 * (1 + Math.abs(facts[1]) + Math.abs(facts[2])))) out.fill(Number.NaN);
    }
  return out;
}
