// float32 arithmetic that gives the same bits on every device. WGSL leaves the rounding of float16 packing and of division to the
// device, but src/cache/codec-int4.ts defines it. Integers only, so that nothing can be fused or approximated.

// The bits of the nearest finite float16, ties to even; NaN stays NaN.
fn halfBits(x: f32) -> u32 {
  if ((bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u) {
    return 0x7e00u;
  }
  let bits = bitcast<u32>(clamp(x, -65504.0, 65504.0));
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x38800000u) {
    let rounded = magnitude + 0xfffu + ((magnitude >> 13u) & 1u);
    return sign | ((rounded - 0x38000000u) >> 13u);
  }
  // Below 2^-14 a half counts units of 2^-24.
  let exponent = magnitude >> 23u;
  if (exponent < 102u) {
    return sign;
  }
  let mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  let shift = 126u - exponent;
  let rest = mantissa & ((1u << shift) - 1u);
  return sign | roundEven(mantissa >> shift, rest, 1u << (shift - 1u));
}

// The value of a finite half, subnormal ones included.
fn halfValue(bits: u32) -> f32 {
  let mantissa = bits & 0x3ffu;
  let exponent = (bits >> 10u) & 31u;
  let sign = select(1.0, -1.0, (bits & 0x8000u) != 0u);
  if (exponent == 0u) {
    return sign * f32(mantissa) * 5.9604644775390625e-8;
  }
  return sign * bitcast<f32>(((exponent + 112u) << 23u) | (mantissa << 13u));
}

fn roundEven(whole: u32, rest: u32, half: u32) -> u32 {
  return whole + u32(rest > half || (rest == half && (whole & 1u) == 1u));
}

// x / 15 for x >= 0, correctly rounded; 0 where the quotient is far below the smallest half.
fn fifteenth(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  let exponent = bits >> 23u;
  if (exponent < 64u) {
    return 0.0;
  }
  let n = ((bits & 0x7fffffu) | 0x800000u) << 7u;
  let q = n / 15u;
  let sticky = u32(n % 15u != 0u);
  let shift = select(3u, 4u, q >= 0x8000000u);
  let rest = (q & ((1u << shift) - 1u)) * 2u + sticky;
  let whole = roundEven(q >> shift, rest, 1u << shift);
  return f32(whole) * bitcast<f32>((exponent - 30u + shift) << 23u);
}

// 1 / the half of these bits, correctly rounded; 0 for 0.
fn inverseOfHalf(bits: u32) -> f32 {
  if (bits == 0u) {
    return 0.0;
  }
  var mantissa = bits & 0x3ffu;
  var exponent = i32(bits >> 10u) - 25;
  if (exponent == -25) {
    let lift = 10u - firstLeadingBit(mantissa);
    mantissa = mantissa << lift;
    exponent = -24 - i32(lift);
  } else {
    mantissa = mantissa | 1024u;
  }
  // floor(2^36 / mantissa) by long division: 26 bits.
  let high = 0x80000000u / mantissa;
  let left = (0x80000000u % mantissa) << 5u;
  let q = (high << 5u) + left / mantissa;
  let rest = (q & 3u) * 2u + u32(left % mantissa != 0u);
  let whole = roundEven(q >> 2u, rest, 4u);
  return f32(whole) * bitcast<f32>(u32(127 - 34 - exponent) << 23u);
}
