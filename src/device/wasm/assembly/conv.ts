// The causal convolution over the runs of a step, each from the slot that its run reads to the one that it writes.
// Defined in device/reference/recurrent.ts; the layout of states is the contract's.
import { madd } from "./exp";
import { silu } from "./gate";
import { firstOf, runAt, runCount, slotOf, tokensOf } from "./runs";

/** Channels that a thread takes at once: a cache line of each token. */
export const CHANNELS: i32 = 16;
const CHANNEL_BYTES: usize = 64;

/** Channels [first, last) of all runs; first is a multiple of CHANNELS. work: kernel * 64 bytes. */
export function convRuns(
  control: usize, out: usize, x: usize, weight: usize, states: usize, channels: i32, kernel: i32, isSilu: bool,
  work: usize, first: i32, last: i32,
): void {
  const slotBytes = usize((kernel - 1) * channels) * 4;
  const rowBytes = usize(channels) * 4;
  for (let c = first; c < last; c += CHANNELS) {
    const count = min(CHANNELS, last - c);
    // The taps of a block, by their index in the kernel.
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

/** The address of the input of token t, which may be before the run; 0: before the text, where it is 0. */
// @ts-ignore: decorator
@inline function inputAt(t: i32, x: usize, before: usize, rowBytes: usize, past: i32): usize {
  if (t >= 0) return x + usize(t) * rowBytes;
  return before == 0 ? 0 : before + usize(past + t) * rowBytes;
}
