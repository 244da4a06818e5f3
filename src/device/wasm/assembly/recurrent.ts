// Recurrent states: the causal convolution and the gated delta rule over the runs of a step, each from the slot that its run
// reads to the one that it writes. Meaning as in device/reference/recurrent.ts; states lie as the contract has them.
// One idea: rows of a state are independent of one another, so threads share heads in blocks of rows, and a block stays in
// the first-level cache for all tokens of a run.
import { madd, sumLanes } from "./exp";
import { silu } from "./gate";
import { firstOf, runAt, runCount, slotOf, tokensOf } from "./runs";

/** Channels that a thread takes at once: a cache line of each token. */
export const CHANNELS: i32 = 16;
const CHANNEL_BYTES: usize = 64;
/** Rows of a state that are one unit: 16 KiB at a key size of 128. */
const UNIT_ROWS: i32 = 32;

/** Channels [first, last) of all runs; first is a multiple of CHANNELS. work: kernel * 64 bytes. */
export function convRuns(
  control: usize, out: usize, x: usize, weight: usize, states: usize, channels: i32, kernel: i32, isSilu: bool,
  work: usize, first: i32, last: i32,
): void {
  const slotBytes = usize((kernel - 1) * channels) * 4;
  const rowBytes = usize(channels) * 4;
  for (let c = first; c < last; c += CHANNELS) {
    const count = min(CHANNELS, last - c);
    // The taps of a block, by place in the kernel.
    for (let j = 0; j < kernel; j++)
      for (let i = 0; i < CHANNELS; i++)
        store<f32>(
          work + usize(j) * CHANNEL_BYTES + usize(i) * 4,
          i < count ? load<f32>(weight + usize((c + i) * kernel + j) * 4) : 0,
        );
    for (let r = 0; r < runCount(control); r++) {
      const run = runAt(control, r);
      const at = usize(firstOf(run)) * rowBytes + usize(c) * 4;
      const before = slotOf(run, false, states, slotBytes);
      const after = slotOf(run, true, states, slotBytes) + usize(c) * 4;
      convBlock(
        out + at, x + at, before == 0 ? 0 : before + usize(c) * 4, after, rowBytes, kernel, isSilu, work, count, tokensOf(run),
      );
    }
  }
}

/** One block of channels of one run. */
function convBlock(
  out: usize, x: usize, before: usize, after: usize, rowBytes: usize, kernel: i32, isSilu: bool, taps: usize, count: i32,
  tokens: i32,
): void {
  const past = kernel - 1;
  const bytes = usize(count) * 4;
  for (let t = 0; t < tokens; t++) {
    const to = out + usize(t) * rowBytes;
    let i: usize = 0;
    for (; i + 16 <= bytes; i += 16) {
      let sum = f32x4.splat(0);
      for (let j = 0; j < kernel; j++) {
        const from = inputAt(t - past + j, x, before, rowBytes, past);
        if (from != 0) sum = madd(v128.load(from + i), v128.load(taps + usize(j) * CHANNEL_BYTES + i), sum);
      }
      v128.store(to + i, isSilu ? silu(sum) : sum);
    }
    for (; i < bytes; i += 4) {
      let sum: f32 = 0;
      for (let j = 0; j < kernel; j++) {
        const from = inputAt(t - past + j, x, before, rowBytes, past);
        if (from != 0) sum += load<f32>(from + i) * load<f32>(taps + usize(j) * CHANNEL_BYTES + i);
      }
      store<f32>(to + i, isSilu ? f32x4.extract_lane(silu(f32x4.splat(sum)), 0) : sum);
    }
  }
  for (let p = 0; p < past; p++) {
    const from = inputAt(tokens - past + p, x, before, rowBytes, past);
    const to = after + usize(p) * rowBytes;
    if (from != 0) memory.copy(to, from, bytes);
    else memory.fill(to, 0, bytes);
  }
}

/** Where the input of token t lies, which may be before the run; 0: before the text, where it is 0. */
// @ts-ignore: decorator
@inline function inputAt(t: i32, x: usize, before: usize, rowBytes: usize, past: i32): usize {
  if (t >= 0) return x + usize(t) * rowBytes;
  return before == 0 ? 0 : before + usize(past + t) * rowBytes;
}

// @ts-ignore: decorator
@inline function blocksOf(valueDim: i32): i32 { return (valueDim + UNIT_ROWS - 1) / UNIT_ROWS; }

export function deltaUnits(control: usize, valueHeads: i32, valueDim: i32): i32 {
  return runCount(control) * valueHeads * blocksOf(valueDim);
}

/** Units [first, last): blocks of rows, of each value head of each run. work: two vectors of keyDim f32. */
export function deltaRuns(
  control: usize, out: usize, x: usize, a: usize, b: usize, rates: usize, bias: usize, states: usize, keyHeads: i32,
  valueHeads: i32, keyDim: i32, valueDim: i32, tiled: bool, epsilon: f32, work: usize, first: i32, last: i32,
): void {
  const blocks = blocksOf(valueDim);
  const slotBytes = usize(valueHeads * valueDim) * usize(keyDim) * 4;
  const keyCols = keyHeads * keyDim;
  const cols = 2 * keyCols + valueHeads * valueDim;
  for (let unit = first; unit < last; unit++) {
    const run = runAt(control, unit / (valueHeads * blocks));
    const h = unit / blocks % valueHeads;
    const row = unit % blocks * UNIT_ROWS;
    const rows = min(UNIT_ROWS, valueDim - row);
    const keyHead = tiled ? h % keyHeads : h / (valueHeads / keyHeads);
    const at = usize(h * valueDim + row) * usize(keyDim) * 4;
    const state = slotOf(run, true, states, slotBytes) + at;
    const before = slotOf(run, false, states, slotBytes);
    const bytes = usize(rows * keyDim) * 4;
    if (before == 0) memory.fill(state, 0, bytes);
    else memory.copy(state, before + at, bytes);
    const rate = load<f32>(rates + usize(h) * 4);
    const shift = load<f32>(bias + usize(h) * 4);
    const end = firstOf(run) + tokensOf(run);
    for (let t = firstOf(run); t < end; t++) {
      const token = x + usize(t) * usize(cols) * 4;
      const q = token + usize(keyHead * keyDim) * 4;
      unitVector(work, q, keyDim, epsilon, 1 / Mathf.sqrt(f32(keyDim)));
      const k = work + usize(keyDim) * 4;
      unitVector(k, q + usize(keyCols) * 4, keyDim, epsilon, 1);
      const gate = usize(t * valueHeads + h) * 4;
      const decay = f32(Math.exp(f64(rate) * softplus(f64(load<f32>(a + gate)) + f64(shift))));
      const beta = f32(1 / (1 + Math.exp(-f64(load<f32>(b + gate)))));
      const v = token + usize(2 * keyCols + h * valueDim + row) * 4;
      deltaRows(out + usize((t * valueHeads + h) * valueDim + row) * 4, state, work, k, v, decay, beta, keyDim, rows);
    }
  }
}

/** `rows` rows of a state take in a token: s = decay s + change k, with change = beta (v - decay s.k); out = s.q. */
function deltaRows(
  out: usize, state: usize, q: usize, k: usize, v: usize, decay: f32, beta: f32, keyDim: i32, rows: i32,
): void {
  const bytes = usize(keyDim) * 4;
  let both = f32x4.splat(0);
  for (let i: usize = 0; i < bytes; i += 16) both = madd(v128.load(q + i), v128.load(k + i), both);
  const qk = f32x4.extract_lane(sumLanes(both), 0);
  const decays = f32x4.splat(decay);
  for (let r: usize = 0; r < usize(rows) * 4; r += 4, state += bytes) {
    let known = f32x4.splat(0);
    let said = f32x4.splat(0);
    for (let i: usize = 0; i < bytes; i += 16) {
      const s = v128.load(state + i);
      known = madd(s, v128.load(k + i), known);
      said = madd(s, v128.load(q + i), said);
    }
    const change = beta * (load<f32>(v + r) - decay * f32x4.extract_lane(sumLanes(known), 0));
    const changes = f32x4.splat(change);
    for (let i: usize = 0; i < bytes; i += 16)
      v128.store(state + i, madd(changes, v128.load(k + i), f32x4.mul(decays, v128.load(state + i))));
    // What the new row says, from what the old one did: no second pass.
    store<f32>(out + r, decay * f32x4.extract_lane(sumLanes(said), 0) + change * qk);
  }
}

/** to = x / |x| * factor. */
function unitVector(to: usize, x: usize, size: i32, epsilon: f32, factor: f32): void {
  const bytes = usize(size) * 4;
  let sums = f32x4.splat(0);
  for (let i: usize = 0; i < bytes; i += 16) {
    const values = v128.load(x + i);
    sums = madd(values, values, sums);
  }
  const inverse = f32x4.splat(factor / Mathf.sqrt(f32x4.extract_lane(sumLanes(sums), 0) + epsilon));
  for (let i: usize = 0; i < bytes; i += 16) v128.store(to + i, f32x4.mul(v128.load(x + i), inverse));
}

/** ln(1 + e^x), also where e^x is no number. */
function softplus(x: f64): f64 {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}
