/**
 * Dawn in Node asks for finished work in a chain of `setImmediate`, as long as anything is under way: a whole core, while
 * SwiftShader compiles and computes on others. In tests it asks once a millisecond, which took 38 % off the CPU time of the
 * conformance suite (2026-11-28). Imported for that; Dawn looks the function up at each call.
 */
const { setImmediate, setTimeout } = globalThis;

globalThis.setImmediate = ((callback: (...args: unknown[]) => void, ...args: unknown[]) =>
  isDawns(callback) ? setTimeout(callback, 1) : setImmediate(callback, ...args)) as typeof setImmediate;

/** A function of an addon without parameters; a promise's `resolve`, native too, has one. */
function isDawns(callback: (...args: unknown[]) => void): boolean {
  return callback.length === 0 && Function.prototype.toString.call(callback).includes("[native code]");
}
