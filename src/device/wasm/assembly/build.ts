// Compile-time facts about this binary: the build makes one with and one without relaxed SIMD from this source.

/** True in the relaxed-SIMD binary; a branch on it is removed at compile time. */
export const RELAXED: bool = ASC_FEATURE_RELAXED_SIMD;

/** 1 if this binary uses relaxed SIMD: lets the host check that it loaded the right one. */
export function relaxed(): i32 {
  return RELAXED ? 1 : 0;
}
