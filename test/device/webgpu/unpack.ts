/** Packed weights -> numbers, written from the layout's description (weights.ts) and apart from the code that packs. */

import { codesRowBytes, scalesRowBytes, type WeightForm } from "../../../src/device/webgpu/weights.ts";
import { bf16ToF32, f16ToF32 } from "../../../src/format/float16.ts";

/** Row `row` of packed words as `cols` floats. */
export function unpackRow(
  form: WeightForm,
  codes: Uint32Array,
  scales: Uint32Array,
  row: number,
  cols: number,
): Float64Array {
  const out = new Float64Array(cols);
  const codeBytes = new Uint8Array(codes.buffer, codes.byteOffset + row * codesRowBytes(form, cols));
  const words = new Uint16Array(scales.buffer, scales.byteOffset + row * scalesRowBytes(form, cols));
  const shorts = new Uint16Array(codes.buffer, codes.byteOffset + row * codesRowBytes(form, cols));
  const floats = new Float32Array(codes.buffer, codes.byteOffset + row * codesRowBytes(form, cols));
  const table = form.table && new Int8Array(Uint32Array.from(form.table).buffer);
  const groups = cols / 32;
  for (let i = 0; i < cols; i++) {
    if (form.codes === "f32") out[i] = floats[i];
    else if (form.codes === "f16") out[i] = f16ToF32(shorts[i]);
    else if (form.codes === "bf16") out[i] = bf16ToF32(shorts[i]);
    if (form.scales === null) continue;
    const group = i >> 5;
    const j = i & 31;
    const upper = j >> 4;
    let code: number;
    const bit = (byte: number, at: number) => (codeBytes[byte] >> at) & 1;
    // Element 4w + b, or 16 + 4w + b, of a group is in byte b of its words.
    const w = (j >> 2) & 3;
    const b = j & 3;
    const pairAt = (w >> 1) * 4 + b;
    const pairShift = 2 * (w & 1) + 4 * upper;
    if (form.codes === "bits") code = 2 * bit(group * 4 + b, w + 4 * upper);
    else if (form.codes === "pairs") code = (codeBytes[group * 8 + pairAt] >> pairShift) & 3;
    else if (form.codes === "thirds") {
      const four = (group >> 2) * 48;
      code = (codeBytes[four + (group & 3) * 8 + pairAt] >> pairShift) & 3;
      code += 4 * bit(four + 32 + (group & 3) * 4 + b, w + 4 * upper);
    } else if (form.codes === "fives" || form.codes === "sixes") {
      code = (codeBytes[group * 16 + (j & 15)] >> (4 * upper)) & 15;
      const uppers = groups * 16;
      if (form.codes === "fives") code += 16 * bit(uppers + group * 4 + b, w + 4 * upper);
      else code += 16 * ((codeBytes[uppers + group * 8 + pairAt] >> pairShift) & 3);
    } else if (form.codes === "bytes")
      code = (codeBytes[(upper * groups + group) * 16 + (j & 15)] << 24) >> 24;
    else code = (codeBytes[group * 16 + (j & 15)] >> (4 * upper)) & 15;
    if (table) code = table[code];
    if (form.scales === "odds") {
      const at = (group >> 3) * 12;
      const d = new DataView(words.buffer, words.byteOffset).getFloat32(at, true);
      const nibble = (words[(at + 4 + (group & 7)) >> 1] >> (8 * (group & 1) + 4 * upper)) & 15;
      out[i] = d * (2 * nibble + 1) * code;
      continue;
    }
    if (form.scales === "e4m3") {
      const view = new DataView(words.buffer, words.byteOffset);
      const bits = view.getUint8(4 + 2 * group + upper) & 127;
      const magnitude = bits < 8 ? bits / 512 : (1 + (bits & 7) / 8) * 2 ** ((bits >> 3) - 7);
      out[i] = (view.getFloat32(0, true) * magnitude * code) / 2;
      continue;
    }
    if (form.scales === "superPairs" || form.scales === "superHalves") {
      const at = (group >> 3) * 10;
      const [d, m] = [f16ToF32(words[at]) / 64, f16ToF32(words[at + 1]) / 64];
      const byte = (which: number) => (words[at + 2 + (group & 6) + which] >> (8 * (group & 1))) & 255;
      if (form.scales === "superPairs") out[i] = d * byte(0) * code + m * byte(1);
      else out[i] = (upper ? m : d) * (byte(upper) - 128) * (code - form.bias);
      continue;
    }
    const half = (at: number) => (form.scales === "bfloat" ? bf16ToF32(words[at]) : f16ToF32(words[at]));
    const scale = half(
      {
        half: group,
        bfloat: group,
        pair: 2 * group,
        halves: 2 * group + upper,
        halfPairs: 4 * group + 2 * upper,
      }[form.scales],
    );
    let offset = 0;
    if (form.scales === "pair") offset = half(2 * group + 1);
    if (form.scales === "halfPairs") offset = half(4 * group + 2 * upper + 1);
    out[i] = scale * (code - form.bias) + offset;
  }
  return out;
}
