/**
 * The two 16-bit float formats as bit patterns: f16 (IEEE 754 binary16) and bf16 (the upper half of an f32). All
 * conversions in Nibble use these functions, so that they round alike: to nearest, ties to even. f16 is widened through
 * a table of all 65,536 values (256 KB, built once); bf16 is a shift.
 */
const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

const WIDE = new Float32Array(65536);
for (let bits = 0; bits < 65536; bits++) WIDE[bits] = widen(bits);

/** The number of a bit pattern (0 to 65535). */
export function f16ToF32(bits: number): number {
  return WIDE[bits];
}

/** The nearest f16's bit pattern. Beyond 65519 it is infinity; a NaN stays a quiet NaN with its upper payload. */
export function f32ToF16(value: number): number {
  scratch[0] = value;
  const bits = scratchBits[0];
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >>> 13) & 0x1ff);
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Below the smallest normal f16: after adding 0.5, an f32's last bit is worth 2^-24, the unit of subnormal f16.
    scratch[0] = Math.abs(scratch[0]) + 0.5;
    return sign | (scratchBits[0] - 0x3f000000);
  }
  // Re-bias the exponent by 112 and round at bit 13; a carry out of the mantissa raises the exponent, up to infinity.
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

export function bf16ToF32(bits: number): number {
  scratchBits[0] = bits << 16;
  return scratch[0];
}

/** The nearest bf16's bit pattern; a NaN stays a quiet NaN. */
export function f32ToBf16(value: number): number {
  scratch[0] = value;
  const bits = scratchBits[0];
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** Reads one f16, little-endian, at any alignment. */
export function f16At(bytes: Uint8Array, at: number): number {
  return WIDE[bytes[at] | (bytes[at + 1] << 8)];
}

/** Sign 1 bit, exponent 5 (bias 15), mantissa 10; exponent 0 is subnormal, 31 infinity or NaN. */
function widen(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const mantissa = bits & 1023;
  if (exponent === 31) return mantissa === 0 ? sign * Infinity : Number.NaN;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  return sign * (1024 + mantissa) * 2 ** (exponent - 25);
}
