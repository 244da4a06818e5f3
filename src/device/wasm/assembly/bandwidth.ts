// Only reads: the best rate at which memory serves one thread. `nibble doctor` times it on all of them.

/** Reads [from, to), a multiple of 128 bytes; the result depends on every byte, so that no load can be removed. */
export function readBytes(from: usize, to: usize): i32 {
  let a = v128.load(from);
  let b = a;
  let c = a;
  let d = a;
  while (from < to) {
    a = v128.xor(a, v128.xor(v128.load(from), v128.load(from, 64)));
    b = v128.xor(b, v128.xor(v128.load(from, 16), v128.load(from, 80)));
    c = v128.xor(c, v128.xor(v128.load(from, 32), v128.load(from, 96)));
    d = v128.xor(d, v128.xor(v128.load(from, 48), v128.load(from, 112)));
    from += 128;
  }
  a = v128.xor(v128.xor(a, b), v128.xor(c, d));
  return (
    i32x4.extract_lane(a, 0) ^ i32x4.extract_lane(a, 1) ^ i32x4.extract_lane(a, 2) ^ i32x4.extract_lane(a, 3)
  );
}
