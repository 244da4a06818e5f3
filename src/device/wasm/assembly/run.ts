// The interpreter: every worker thread calls `run` once a step and walks the same operation list, doing its share of
// each and meeting the others where a record says so. Word numbers are those of ../records.ts, control words those of
// ../workers.ts. Refuses to know models: addresses and sizes are in the records.
// One idea: work that is worth sharing is cut into units that threads take from a counter, so that a thread which the
// operating system holds back does not hold back the others; small work is cut evenly.
import { barrier } from "./barrier";
import { add, rmsNorm, rope, scale, slice, softcap } from "./elementwise";
import { embedRow } from "./embed";
import { combine, combineUnits, expertGrain, expertMatmul, expertUnits, groupPicks, routeRows } from "./experts";
import { gated } from "./gate";
import { matmul } from "./matmul";
import { quantizeRows } from "./quantize";
import { CHANNELS, convRuns, deltaRuns, deltaUnits } from "./recurrent";
import { appendRuns, attendRuns, attendRunsUnits, mergeRuns, mergeRunsUnits, OUTPUT_ROWS_AT, OUTPUTS, TOKENS } from "./runs";

const RECORD_BYTES: usize = 128;

/** Pieces that a shared operation is cut into for each thread: small enough to even out, large enough to stream. */
const PIECES: i32 = 8;

// @ts-ignore: decorator
@inline function word(op: usize, index: i32): usize { return load<usize>(op + 16 + (usize(index) << 2)); }
// @ts-ignore: decorator
@inline function int(op: usize, index: i32): i32 { return load<i32>(op + 16 + (usize(index) << 2)); }
// @ts-ignore: decorator
@inline function float(op: usize, index: i32): f32 { return load<f32>(op + 16 + (usize(index) << 2)); }

/** Takes the next `grain` of `units`; returns the first of them, or -1 when none is left. */
// @ts-ignore: decorator
@inline function take(op: usize, grain: i32, units: i32): i32 {
  const first = atomic.add<i32>(op + 8, grain);
  return first < units ? first : -1;
}

/** Where this thread's even share of `count` begins, in multiples of `step`; the next thread's begin is its end. */
// @ts-ignore: decorator
@inline function share(count: i32, step: i32, thread: u32, threads: u32): i32 {
  const steps = u64((count + step - 1) / step);
  return min(count, i32(steps * u64(thread) / u64(threads)) * step);
}

/** Runs `count` operations at `ops` as `thread` of `threads`. Returns early when the step was stopped. */
export function run(control: usize, ops: usize, count: u32, thread: u32, threads: u32): void {
  const tokens = load<i32>(control + TOKENS);
  const outputs = load<i32>(control + OUTPUTS);
  for (let i: u32 = 0; i < count; i++, ops += RECORD_BYTES) {
    const rows = load<u32>(ops + 12) ? outputs : tokens;
    if (rows > 0) execute(control, ops, rows, thread, threads);
    if (load<u32>(ops + 4)) {
      if (!barrier(control, threads)) return;
    }
  }
}

function execute(control: usize, op: usize, rows: i32, thread: u32, threads: u32): void {
  switch (load<u32>(op)) {
    case 1: {
      // embed: out, table, type, table rows, cols, scale, ids
      const cols = int(op, 4);
      for (let t = thread; t < u32(rows); t += threads) {
        const id = load<i32>(word(op, 6) + (usize(t) << 2));
        embedRow(word(op, 0) + usize(t) * usize(cols) * 4, word(op, 1), int(op, 2), int(op, 3), cols, id, float(op, 5));
      }
      return;
    }
    case 2: {
      // rmsNorm: out, x, weight, groups, size, epsilon
      const size = int(op, 4);
      const vectors = rows * int(op, 3);
      const first = share(vectors, 1, thread, threads);
      const at = usize(first) * usize(size) * 4;
      const mine = share(vectors, 1, thread + 1, threads) - first;
      rmsNorm(word(op, 0) + at, word(op, 1) + at, word(op, 2), size, float(op, 5), mine);
      return;
    }
    case 3: {
      // quantize: q, x, cols, vectors of a row
      const vectors = rows * int(op, 3);
      const first = share(vectors, 1, thread, threads);
      quantizeRows(word(op, 1), word(op, 0), int(op, 2), first, share(vectors, 1, thread + 1, threads));
      return;
    }
    case 4: {
      // matmul: out, x, q, weight, type, weight rows, cols, bias, work, work bytes
      const work = word(op, 8) + usize(thread) * word(op, 9);
      const panels = (int(op, 5) + 7) >> 3;
      const grain = max(1, panels / (i32(threads) * PIECES));
      for (let first = take(op, grain, panels); first >= 0; first = take(op, grain, panels)) {
        const last = min(first + grain, panels);
        matmul(
          word(op, 0), word(op, 1), word(op, 2), word(op, 3), int(op, 4), int(op, 5), int(op, 6), rows, word(op, 7),
          first, last, work,
        );
      }
      return;
    }
    case 5: {
      // rope: out, x, turns, heads, headDim, pairs
      const heads = int(op, 3);
      const width = usize(heads) * usize(int(op, 4)) * 4;
      const first = share(rows, 1, thread, threads);
      const at = usize(first) * width;
      const turns = word(op, 2) + usize(first) * usize(int(op, 5)) * 8;
      const mine = share(rows, 1, thread + 1, threads) - first;
      rope(word(op, 0) + at, word(op, 1) + at, turns, heads, int(op, 4), int(op, 5), mine);
      return;
    }
    case 6: {
      // appendKv: vectors, keys, values, kvHeads, headDim, their tables, format, work, work bytes, packed, its tables, blocks
      // to pack, window
      const kvHeads = int(op, 3);
      const first = share(kvHeads, 1, thread, threads);
      const last = share(kvHeads, 1, thread + 1, threads);
      const work = word(op, 7) + usize(thread) * word(op, 8);
      appendRuns(
        control, word(op, 0), word(op, 1), word(op, 2), kvHeads, int(op, 4), word(op, 5), int(op, 6), work, word(op, 9),
        word(op, 10), word(op, 11), int(op, 12), first, last,
      );
      return;
    }
    case 7: {
      // attend: vectors, queries, out, partials, work, work bytes, heads, kvHeads, headDim, their tables, window, scale, softcap,
      // format, sinks, packed, its tables, kept
      const heads = int(op, 6);
      const kvHeads = int(op, 7);
      const work = word(op, 4) + usize(thread) * word(op, 5);
      const units = attendRunsUnits(control, heads, kvHeads, int(op, 10));
      const grain = max(1, units / (i32(threads) * PIECES));
      for (let first = take(op, grain, units); first >= 0; first = take(op, grain, units)) {
        const last = min(first + grain, units);
        attendRuns(
          control, word(op, 0), word(op, 1), word(op, 2), word(op, 3), work, heads, kvHeads, int(op, 8), word(op, 9),
          int(op, 10), float(op, 11), float(op, 12), int(op, 13), word(op, 14), word(op, 15), word(op, 16), int(op, 17),
          first, last,
        );
      }
      return;
    }
    case 8: {
      // attendMerge: partials, out, heads, kvHeads, headDim, window, format, sinks
      const units = mergeRunsUnits(control, int(op, 2), int(op, 3), int(op, 5));
      const first = share(units, 1, thread, threads);
      const last = share(units, 1, thread + 1, threads);
      mergeRuns(
        control, word(op, 0), word(op, 1), int(op, 2), int(op, 3), int(op, 4), int(op, 5), int(op, 6), word(op, 7), first,
        last,
      );
      return;
    }
    case 9: {
      // gate: out, gate, up, columns of gate, columns of up for each, activation, limit
      const width = int(op, 4);
      const count = rows * int(op, 3);
      const step = width == 1 ? 16 : 1;
      const first = share(count, step, thread, threads);
      const mine = share(count, step, thread + 1, threads) - first;
      const at = usize(first) * 4;
      const up = at * usize(width);
      gated(int(op, 5), word(op, 0) + up, word(op, 1) + at, word(op, 2) + up, mine, width, float(op, 6));
      return;
    }
    case 10: {
      // add: out, a, b, cols
      const first = share(rows * int(op, 3), 16, thread, threads);
      const at = usize(first) * 4;
      add(word(op, 0) + at, word(op, 1) + at, word(op, 2) + at, share(rows * int(op, 3), 16, thread + 1, threads) - first);
      return;
    }
    case 11: {
      // softcap: out, x, cols, cap
      const first = share(rows * int(op, 2), 16, thread, threads);
      const at = usize(first) * 4;
      softcap(word(op, 0) + at, word(op, 1) + at, float(op, 3), share(rows * int(op, 2), 16, thread + 1, threads) - first);
      return;
    }
    case 12: {
      // takeOutputs: out, x, cols; rows are the outputs
      if (thread != 0) return;
      const bytes = usize(int(op, 2)) * 4;
      const from = load<usize>(control + OUTPUT_ROWS_AT);
      for (let i = 0; i < rows; i++)
        memory.copy(word(op, 0) + usize(i) * bytes, word(op, 1) + usize(load<u32>(from + usize(i) * 4)) * bytes, bytes);
      return;
    }
    case 13: {
      // slice: out, x from the first column on, vectors of a row, size, columns from one vector to the next
      const size = int(op, 3);
      const width = int(op, 4);
      const first = share(rows * int(op, 2), 1, thread, threads);
      const mine = share(rows * int(op, 2), 1, thread + 1, threads) - first;
      slice(word(op, 0) + usize(first) * usize(size) * 4, word(op, 1) + usize(first) * usize(width) * 4, size, width, mine);
      return;
    }
    case 14: {
      // scale: out, x, cols, factor
      const first = share(rows * int(op, 2), 16, thread, threads);
      const at = usize(first) * 4;
      scale(word(op, 0) + at, word(op, 1) + at, float(op, 3), share(rows * int(op, 2), 16, thread + 1, threads) - first);
      return;
    }
    case 15: {
      // route: out, logits, experts, k, normalise, weights
      const first = share(rows, 1, thread, threads);
      const last = share(rows, 1, thread + 1, threads);
      routeRows(word(op, 0), word(op, 1), int(op, 2), int(op, 3), int(op, 4) != 0, word(op, 5), first, last);
      return;
    }
    case 16:
      // groupPicks: order, starts, picks, experts, k. A few microseconds: the first thread, whose share of rows to quantize
      // meanwhile is the smallest, does it alone.
      if (thread == 0) groupPicks(word(op, 0), word(op, 1), word(op, 2), int(op, 3), int(op, 4), rows);
      return;
    case 17: {
      // expertMatmul: out, x, q, weight, type, rows of an expert, cols, bias, experts, share, order, starts, work, work bytes
      const work = word(op, 12) + usize(thread) * word(op, 13);
      const units = expertUnits(word(op, 11), int(op, 8), int(op, 5));
      const grain = expertGrain(units, int(op, 5), i32(threads) * PIECES);
      for (let first = take(op, grain, units); first >= 0; first = take(op, grain, units)) {
        const last = min(first + grain, units);
        expertMatmul(
          word(op, 0), word(op, 1), word(op, 2), word(op, 3), int(op, 4), int(op, 5), int(op, 6), word(op, 7), int(op, 8),
          int(op, 9), word(op, 10), word(op, 11), first, last, work,
        );
      }
      return;
    }
    case 18: {
      // combine: out, x, picks, cols, k
      const units = combineUnits(rows, int(op, 3));
      const first = share(units, 1, thread, threads);
      const last = share(units, 1, thread + 1, threads);
      combine(word(op, 0), word(op, 1), word(op, 2), int(op, 3), int(op, 4), first, last);
      return;
    }
    case 19: {
      // conv: out, x, weight, states, channels, kernel, silu, work, work bytes
      const channels = int(op, 4);
      const work = word(op, 7) + usize(thread) * word(op, 8);
      const first = share(channels, CHANNELS, thread, threads);
      convRuns(
        control, word(op, 0), word(op, 1), word(op, 2), word(op, 3), channels, int(op, 5), int(op, 6) != 0, work, first,
        share(channels, CHANNELS, thread + 1, threads),
      );
      return;
    }
    case 20: {
      // gatedDelta: out, x, a, b, rates, bias, states, keyHeads, valueHeads, keyDim, valueDim, tiled, epsilon, work, work bytes
      const work = word(op, 13) + usize(thread) * word(op, 14);
      const units = deltaUnits(control, int(op, 8), int(op, 10));
      const grain = max(1, units / (i32(threads) * PIECES));
      for (let first = take(op, grain, units); first >= 0; first = take(op, grain, units))
        deltaRuns(
          control, word(op, 0), word(op, 1), word(op, 2), word(op, 3), word(op, 4), word(op, 5), word(op, 6), int(op, 7),
          int(op, 8), int(op, 9), int(op, 10), int(op, 11) != 0, float(op, 12), work, first, min(first + grain, units),
        );
      return;
    }
    default:
      // A record that this binary does not know: trap, which the host reports as a failed worker.
      unreachable();
  }
}
