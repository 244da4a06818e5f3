// The interpreter: every worker thread calls `run` once per step and walks the same operation list, doing its share of
// each and meeting the others at a barrier where a record says so. Records and control
// words are those of ../abi.js; addresses and sizes are in the records. Large work is divided into units that threads
// take from a counter, so that a thread held back by the operating system does not delay the others; small work is
// divided evenly.
import { OUTPUT_ROWS_AT, OUTPUTS, TOKENS } from "./abi/control";
import {
  ADD, APPEND_KV, ATTEND, ATTEND_MERGE, COMBINE, CONV, EMBED, EXPERT_MATMUL, GATE, GATED_DELTA, GROUP_PICKS, MATMUL, QUANTIZE,
  RECORD_BYTES, RMS_NORM, ROPE, ROUTE, SCALE, SLICE, SOFTCAP, TAKE_OUTPUTS, TAKE_TURNED,
  Add, AppendKv, Attend, AttendMerge, Combine, Conv, Embed, ExpertMatmul, Gate, GatedDelta, GroupPicks, Matmul, Quantize, Record,
  RmsNorm, Rope, Route, Scale, Slice, Softcap, TakeOutputs, TakeTurned,
} from "./abi/records";
import { barrier } from "./barrier";
import { CHANNELS, convRuns } from "./conv";
import { deltaRuns, deltaUnits } from "./delta";
import { add, rmsNorm, rope, scale, slice, softcap, takeTurned } from "./elementwise";
import { embedRow } from "./embed";
import { combine, combineUnits, expertGrain, expertMatmul, expertUnits, groupPicks, routeRows } from "./experts";
import { gated } from "./gate";
import { matmul } from "./matmul";
import { quantizeRows } from "./quantize";
import { appendRuns, attendRuns, attendRunsUnits, mergeRuns, mergeRunsUnits } from "./runs";

/** Pieces of a shared operation per thread: small enough to balance, large enough to stream. */
const PIECES: i32 = 8;

/** Takes the next `grain` of `units`; returns the first of them, or -1 if none is left. */
// @ts-ignore: decorator
@inline function take(op: usize, grain: i32, units: i32): i32 {
  const first = atomic.add<i32>(op + offsetof<Record>("taken"), grain);
  return first < units ? first : -1;
}

/** The start of this thread's even share of `count`, in multiples of `step`; the next thread's start is its end. */
// @ts-ignore: decorator
@inline function share(count: i32, step: i32, thread: u32, threads: u32): i32 {
  const steps = u64((count + step - 1) / step);
  return min(count, i32(steps * u64(thread) / u64(threads)) * step);
}

/** Runs `count` operations at `ops` as `thread` of `threads`. Returns early if the step was stopped. */
export function run(control: usize, ops: usize, count: u32, thread: u32, threads: u32): void {
  const tokens = load<i32>(control + TOKENS);
  const outputs = load<i32>(control + OUTPUTS);
  for (let i: u32 = 0; i < count; i++, ops += RECORD_BYTES) {
    const record = changetype<Record>(ops);
    const rows = record.rows ? outputs : tokens;
    if (rows > 0) execute(control, ops, rows, thread, threads);
    if (record.meet) {
      if (!barrier(control, threads)) return;
    }
  }
}

function execute(control: usize, op: usize, rows: i32, thread: u32, threads: u32): void {
  switch (changetype<Record>(op).kind) {
    case EMBED: {
      const a = changetype<Embed>(op);
      const cols = a.cols;
      for (let t = thread; t < u32(rows); t += threads) {
        const id = load<i32>(a.ids + (usize(t) << 2));
        embedRow(a.out + usize(t) * usize(cols) * 4, a.table, a.weightType, a.tableRows, cols, id, a.scale);
      }
      return;
    }
    case RMS_NORM: {
      const a = changetype<RmsNorm>(op);
      const size = a.size;
      const vectors = rows * a.groups;
      const first = share(vectors, 1, thread, threads);
      const at = usize(first) * usize(size) * 4;
      const mine = share(vectors, 1, thread + 1, threads) - first;
      rmsNorm(a.out + at, a.x + at, a.weight, size, a.epsilon, mine);
      return;
    }
    case QUANTIZE: {
      const a = changetype<Quantize>(op);
      const vectors = rows * a.vectors;
      const first = share(vectors, 1, thread, threads);
      quantizeRows(a.x, a.quantized, a.cols, first, share(vectors, 1, thread + 1, threads));
      return;
    }
    case MATMUL: {
      const a = changetype<Matmul>(op);
      const work = a.work + usize(thread) * a.workBytes;
      const panels = (a.weightRows + 7) >> 3;
      const grain = max(1, panels / (i32(threads) * PIECES));
      for (let first = take(op, grain, panels); first >= 0; first = take(op, grain, panels)) {
        const last = min(first + grain, panels);
        matmul(
          a.out, a.x, a.quantized, a.weight, a.weightType, a.weightRows, a.cols, rows, a.bias,
          first, last, work,
        );
      }
      return;
    }
    case ROPE: {
      const a = changetype<Rope>(op);
      const heads = a.heads;
      const width = usize(heads) * usize(a.headDim) * 4;
      const first = share(rows, 1, thread, threads);
      const at = usize(first) * width;
      const angles = a.angles + usize(first) * usize(a.pairs) * 8;
      const mine = share(rows, 1, thread + 1, threads) - first;
      rope(a.out + at, a.x + at, angles, heads, a.headDim, a.pairs, mine);
      return;
    }
    case APPEND_KV: {
      const a = changetype<AppendKv>(op);
      const kvHeads = a.kvHeads;
      const first = share(kvHeads, 1, thread, threads);
      const last = share(kvHeads, 1, thread + 1, threads);
      const work = a.work + usize(thread) * a.workBytes;
      appendRuns(
        control, a.cache, a.keys, a.values, kvHeads, a.headDim, a.turned, a.tables, a.format, work, a.packed,
        a.packedTables, a.packs, a.window, first, last,
      );
      return;
    }
    case ATTEND: {
      const a = changetype<Attend>(op);
      const heads = a.heads;
      const kvHeads = a.kvHeads;
      const work = a.work + usize(thread) * a.workBytes;
      const units = attendRunsUnits(control, heads, kvHeads, a.window);
      const grain = max(1, units / (i32(threads) * PIECES));
      for (let first = take(op, grain, units); first >= 0; first = take(op, grain, units)) {
        const last = min(first + grain, units);
        attendRuns(
          control, a.cache, a.queries, a.out, a.partials, work, heads, kvHeads, a.headDim, a.turned, a.tables,
          a.window, a.scale, a.softcap, a.format, a.sinks, a.packed, a.packedTables, a.kept,
          first, last,
        );
      }
      return;
    }
    case ATTEND_MERGE: {
      const a = changetype<AttendMerge>(op);
      const units = mergeRunsUnits(control, a.heads, a.kvHeads, a.window);
      const first = share(units, 1, thread, threads);
      const last = share(units, 1, thread + 1, threads);
      mergeRuns(
        control, a.partials, a.out, a.heads, a.kvHeads, a.headDim, a.window, a.format, a.sinks, first,
        last,
      );
      return;
    }
    case GATE: {
      const a = changetype<Gate>(op);
      const width = a.width;
      const count = rows * a.cols;
      const step = width == 1 ? 16 : 1;
      const first = share(count, step, thread, threads);
      const mine = share(count, step, thread + 1, threads) - first;
      const at = usize(first) * 4;
      const up = at * usize(width);
      gated(a.activation, a.out + up, a.gate + at, a.up + up, mine, width, a.limit);
      return;
    }
    case ADD: {
      const a = changetype<Add>(op);
      const first = share(rows * a.cols, 16, thread, threads);
      const at = usize(first) * 4;
      add(a.out + at, a.a + at, a.b + at, share(rows * a.cols, 16, thread + 1, threads) - first);
      return;
    }
    case SOFTCAP: {
      const a = changetype<Softcap>(op);
      const first = share(rows * a.cols, 16, thread, threads);
      const at = usize(first) * 4;
      softcap(a.out + at, a.x + at, a.cap, share(rows * a.cols, 16, thread + 1, threads) - first);
      return;
    }
    case TAKE_OUTPUTS: {
      const a = changetype<TakeOutputs>(op);
      if (thread != 0) return;
      const bytes = usize(a.cols) * 4;
      const from = load<usize>(control + OUTPUT_ROWS_AT);
      for (let i = 0; i < rows; i++)
        memory.copy(a.out + usize(i) * bytes, a.x + usize(load<u32>(from + usize(i) * 4)) * bytes, bytes);
      return;
    }
    case SLICE: {
      const a = changetype<Slice>(op);
      const size = a.size;
      const width = a.stride;
      const first = share(rows * a.vectors, 1, thread, threads);
      const mine = share(rows * a.vectors, 1, thread + 1, threads) - first;
      slice(a.out + usize(first) * usize(size) * 4, a.x + usize(first) * usize(width) * 4, size, width, mine);
      return;
    }
    case SCALE: {
      const a = changetype<Scale>(op);
      const first = share(rows * a.cols, 16, thread, threads);
      const at = usize(first) * 4;
      scale(a.out + at, a.x + at, a.factor, share(rows * a.cols, 16, thread + 1, threads) - first);
      return;
    }
    case TAKE_TURNED: {
      const a = changetype<TakeTurned>(op);
      const headDim = a.headDim;
      const width = 2 * a.turning + (a.weight != 0 ? headDim : 0);
      const first = share(rows * a.vectors, 1, thread, threads);
      const mine = share(rows * a.vectors, 1, thread + 1, threads) - first;
      takeTurned(
        a.out + usize(first * width) * 4, a.x + usize(first * headDim) * 4, a.weight, headDim, a.pairs, a.turning, mine,
      );
      return;
    }
    case ROUTE: {
      const a = changetype<Route>(op);
      const first = share(rows, 1, thread, threads);
      const last = share(rows, 1, thread + 1, threads);
      routeRows(a.out, a.logits, a.experts, a.k, a.normalise != 0, a.weights, first, last);
      return;
    }
    case GROUP_PICKS: {
      const a = changetype<GroupPicks>(op);
      // A few microseconds: done by the first thread alone, whose share of rows to quantize is the smallest.
      if (thread == 0) groupPicks(a.order, a.starts, a.picks, a.experts, a.k, rows);
      return;
    }
    case EXPERT_MATMUL: {
      const a = changetype<ExpertMatmul>(op);
      const work = a.work + usize(thread) * a.workBytes;
      const units = expertUnits(a.starts, a.experts, a.expertRows);
      const grain = expertGrain(units, a.expertRows, i32(threads) * PIECES);
      for (let first = take(op, grain, units); first >= 0; first = take(op, grain, units)) {
        const last = min(first + grain, units);
        expertMatmul(
          a.out, a.x, a.quantized, a.weight, a.weightType, a.expertRows, a.cols, a.bias, a.experts,
          a.share, a.order, a.starts, first, last, work,
        );
      }
      return;
    }
    case COMBINE: {
      const a = changetype<Combine>(op);
      const units = combineUnits(rows, a.cols);
      const first = share(units, 1, thread, threads);
      const last = share(units, 1, thread + 1, threads);
      combine(a.out, a.x, a.picks, a.cols, a.k, first, last);
      return;
    }
    case CONV: {
      const a = changetype<Conv>(op);
      const channels = a.channels;
      const work = a.work + usize(thread) * a.workBytes;
      const first = share(channels, CHANNELS, thread, threads);
      convRuns(
        control, a.out, a.x, a.weight, a.states, channels, a.kernel, a.silu != 0, work, first,
        share(channels, CHANNELS, thread + 1, threads),
      );
      return;
    }
    case GATED_DELTA: {
      const a = changetype<GatedDelta>(op);
      const work = a.work + usize(thread) * a.workBytes;
      const units = deltaUnits(control, a.valueHeads, a.valueDim, a.least);
      const grain = max(1, units / (i32(threads) * PIECES));
      for (let first = take(op, grain, units); first >= 0; first = take(op, grain, units))
        deltaRuns(
          control, a.out, a.x, a.a, a.b, a.rates, a.bias, a.states, a.keyHeads,
          a.valueHeads, a.keyDim, a.valueDim, a.tiled != 0, a.epsilon, a.least, work, first, min(first + grain, units),
        );
      return;
    }
    default:
      // A record that this binary does not know: trap, which the host reports as a failed worker.
      unreachable();
  }
}
