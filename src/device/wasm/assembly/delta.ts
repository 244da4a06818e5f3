// The gated delta rule over the runs of a step, each from the slot that its run reads to the one that it writes.
// Defined in device/reference/recurrent.ts; the layout of states is the contract's. This file has the shared parts and
// the token-by-token form for short runs; delta-chunks.ts has the form for prompts. Rows of a state are independent of
// one another, so threads share heads in blocks of rows.
import { TOKENS } from "./abi/control";
import { CHUNK, DeltaWork, PANEL, storePanels, takeChunk, takePanels } from "./delta-chunks";
import { madd, sumLanes } from "./exp";
import { firstOf, runAt, runCount, slotOf, tokensOf } from "./runs";

/**
 * Rows of a state in one unit: few, so that threads share evenly; in chunks more, which share the products of tokens.
 */
const ROWS: i32 = 32;
const CHUNKED_ROWS: i32 = 128;

// @ts-ignore: decorator
@inline function unitRows(control: usize, least: i32): i32 {
  return load<i32>(control + TOKENS) >= least ? CHUNKED_ROWS : ROWS;
}

// @ts-ignore: decorator
@inline function blocksOf(valueDim: i32, rows: i32): i32 { return (valueDim + rows - 1) / rows; }

export function deltaUnits(control: usize, valueHeads: i32, valueDim: i32, least: i32): i32 {
  return runCount(control) * valueHeads * blocksOf(valueDim, unitRows(control, least));
}

/** Bytes of a thread's work area, which is laid out at `work`. */
export function deltaWorkBytes(work: usize, keyDim: i32): usize {
  return DeltaWork.at(work, keyDim).panels - work + usize(CHUNKED_ROWS * keyDim) * 4;
}

/**
 * Units [first, last): blocks of rows, of each value head of each run. least: the fewest tokens of a run that is
 * computed in chunks. work: deltaWorkBytes.
 */
export function deltaRuns(
  control: usize, out: usize, x: usize, a: usize, b: usize, rates: usize, bias: usize, states: usize, keyHeads: i32,
  valueHeads: i32, keyDim: i32, valueDim: i32, tiled: bool, epsilon: f32, least: i32, work: usize, first: i32, last: i32,
): void {
  const most = unitRows(control, least);
  const blocks = blocksOf(valueDim, most);
  const slotBytes = usize(valueHeads * valueDim) * usize(keyDim) * 4;
  const keyCols = keyHeads * keyDim;
  const xStride = usize(2 * keyCols + valueHeads * valueDim) * 4;
  const outStride = usize(valueHeads * valueDim) * 4;
  const w = DeltaWork.at(work, keyDim);
  for (let unit = first; unit < last; unit++) {
    const run = runAt(control, unit / (valueHeads * blocks));
    const h = unit / blocks % valueHeads;
    const row = unit % blocks * most;
    const rows = min(most, valueDim - row);
    const keyHead = tiled ? h % keyHeads : h / (valueHeads / keyHeads);
    const at = usize(h * valueDim + row) * usize(keyDim) * 4;
    const state = slotOf(run, true, states, slotBytes) + at;
    const before = slotOf(run, false, states, slotBytes);
    const inChunks = tokensOf(run) >= least && rows % PANEL == 0;
    if (inChunks) takePanels(w, before == 0 ? 0 : before + at, rows);
    else if (before == 0) memory.fill(state, 0, usize(rows * keyDim) * 4);
    else memory.copy(state, before + at, usize(rows * keyDim) * 4);
    const rate = f64(load<f32>(rates + usize(h) * 4));
    const shift = f64(load<f32>(bias + usize(h) * 4));
    const end = firstOf(run) + tokensOf(run);
    for (let from = firstOf(run); from < end; from += CHUNK) {
      const count = min(CHUNK, end - from);
      for (let t = 0; t < count; t++) {
        const q = x + usize(from + t) * xStride + usize(keyHead * keyDim) * 4;
        unitVector(w.query(t), q, keyDim, epsilon, 1 / Mathf.sqrt(f32(keyDim)));
        unitVector(w.key(t), q + usize(keyCols) * 4, keyDim, epsilon, 1);
        const gate = usize((from + t) * valueHeads + h) * 4;
        store<f32>(w.decays + usize(t) * 4, f32(Math.exp(rate * softplus(f64(load<f32>(a + gate)) + shift))));
        store<f32>(w.betas + usize(t) * 4, f32(1 / (1 + Math.exp(-f64(load<f32>(b + gate))))));
      }
      const v = x + usize(from) * xStride + usize(2 * keyCols + h * valueDim + row) * 4;
      const to = out + usize(from) * outStride + usize(h * valueDim + row) * 4;
      if (inChunks) takeChunk(w, to, outStride, v, xStride, rows, count);
      else
        for (let t: usize = 0; t < usize(count); t++)
          takeToken(
            to + t * outStride, state, w.query(i32(t)), w.key(i32(t)), v + t * xStride, load<f32>(w.decays + t * 4),
            load<f32>(w.betas + t * 4), keyDim, rows,
          );
    }
    if (inChunks) storePanels(w, state, rows);
  }
}

/**
 * Updates `rows` rows of a state with a token: s = decay s + change k, with change = beta (v - decay s.k); out = s.q.
 */
function takeToken(
  out: usize, state: usize, q: usize, k: usize, v: usize, decay: f32, beta: f32, keyDim: i32, rows: i32,
): void {
  const bytes = usize(keyDim) * 4;
  let both = f32x4.splat(0);
  for (let i: usize = 0; i < bytes; i += 16) both = madd(v128.load(q + i), v128.load(k + i), both);
  const qk = f32x4.extract_lane(sumLanes(both), 0);
  const decays = f32x4.splat(decay);
  // Four rows at a time: a single sum would wait for each of its additions. Past the last row it is repeated; all four
  // are read before any is written.
  for (let r = 0; r < rows; r += 4) {
    const s0 = state + usize(r) * bytes;
    const s1 = state + usize(min(r + 1, rows - 1)) * bytes;
    const s2 = state + usize(min(r + 2, rows - 1)) * bytes;
    const s3 = state + usize(min(r + 3, rows - 1)) * bytes;
    let known0 = f32x4.splat(0), known1 = known0, known2 = known0, known3 = known0;
    let said0 = known0, said1 = known0, said2 = known0, said3 = known0;
    for (let i: usize = 0; i < bytes; i += 16) {
      const ks = v128.load(k + i);
      const qs = v128.load(q + i);
      let s = v128.load(s0 + i);
      known0 = madd(s, ks, known0);
      said0 = madd(s, qs, said0);
      s = v128.load(s1 + i);
      known1 = madd(s, ks, known1);
      said1 = madd(s, qs, said1);
      s = v128.load(s2 + i);
      known2 = madd(s, ks, known2);
      said2 = madd(s, qs, said2);
      s = v128.load(s3 + i);
      known3 = madd(s, ks, known3);
      said3 = madd(s, qs, said3);
    }
    const change0 = changeOf(out, v, r, rows, decay, beta, qk, known0, said0);
    const change1 = changeOf(out, v, r + 1, rows, decay, beta, qk, known1, said1);
    const change2 = changeOf(out, v, r + 2, rows, decay, beta, qk, known2, said2);
    const change3 = changeOf(out, v, r + 3, rows, decay, beta, qk, known3, said3);
    for (let i: usize = 0; i < bytes; i += 16) {
      const ks = v128.load(k + i);
      const n0 = madd(change0, ks, f32x4.mul(decays, v128.load(s0 + i)));
      const n1 = madd(change1, ks, f32x4.mul(decays, v128.load(s1 + i)));
      const n2 = madd(change2, ks, f32x4.mul(decays, v128.load(s2 + i)));
      const n3 = madd(change3, ks, f32x4.mul(decays, v128.load(s3 + i)));
      v128.store(s0 + i, n0);
      v128.store(s1 + i, n1);
      v128.store(s2 + i, n2);
      v128.store(s3 + i, n3);
    }
  }
}

/**
 * How much of the key a row takes, in every lane; and the new row's output, computed from the old one's without a
 * second pass.
 */
// @ts-ignore: decorator
@inline
function changeOf(
  out: usize, v: usize, row: i32, rows: i32, decay: f32, beta: f32, qk: f32, known: v128, said: v128,
): v128 {
  const at = usize(min(row, rows - 1)) * 4;
  const change = beta * (load<f32>(v + at) - decay * f32x4.extract_lane(sumLanes(known), 0));
  store<f32>(out + at, decay * f32x4.extract_lane(sumLanes(said), 0) + change * qk);
  return f32x4.splat(change);
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

/** ln(1 + e^x), also if e^x overflows. */
function softplus(x: f64): f64 {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}
