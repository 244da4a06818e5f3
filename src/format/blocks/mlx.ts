/**
 * MLX affine groups, as the safetensors reader gathers them: [scale f32][bias f32][codes]. The codes are the bits of
 * MLX's little-endian u32 words, lowest first, so byte j of 4-bit codes holds value 2j low and 2j + 1 high: adjacent
 * values, where GGUF's nibbles are 16 apart. value = scale * code + bias.
 */
const fround = Math.fround;

export function mlx(bits: 4 | 8, group: 32 | 64 | 128): (bytes: Uint8Array, out: Float32Array) => void {
  const blockBytes = 8 + (group * bits) / 8;
  return (bytes, out) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0, to = 0; to < out.length; at += blockBytes, to += group) {
      const scale = view.getFloat32(at, true);
      const bias = view.getFloat32(at + 4, true);
      for (let i = 0; i < group; i++) {
        const code = bits === 8 ? bytes[at + 8 + i] : (bytes[at + 8 + (i >> 1)] >> (4 * (i & 1))) & 15;
        out[to + i] = fround(scale * code) + bias;
      }
    }
  };
}
