/**
 * The random numbers for sampling, by index instead of in sequence, so that a device that runs ahead and a host that
 * replaces it use the same ones. kernels/sampleDraw.wgsl computes the same.
 */

/** Number `index` of a seed, in [0, 1): SplitMix32 (the 32-bit form of Steele, Lea and Flood's SplitMix, OOPSLA 2014). */
export function uniformNumber(seed: number, index: number): number {
  const state = (seed + Math.imul(index + 1, 0x9e3779b9)) >>> 0;
  let z = state;
  z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
  z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
  return ((z ^ (z >>> 16)) >>> 0) / 2 ** 32;
}
