// The gated delta rule for prompts: chunks of 16 tokens, derived in test/device/delta-chunks.ts (Gated Delta Networks,
// arXiv 2412.06464; the WY form of DeltaNet, arXiv 2406.06484). The state's products with a chunk's tokens and their
// changes to it are small matrix products that stay in registers; the tokens' effects on one another are solved by
// forward substitution. The state of a unit is stored in panels of 8 rows, like float weights, so one kernel serves
// both.
import { madd } from "./exp";
import { floatPanel } from "./matmul-float";
import { F32 } from "./matmul-layout";

/** Tokens of a chunk: the larger it is, the more products among its tokens, and the fewer passes over the state. */
export const CHUNK: i32 = 16;
/**
 * Products of decays below this, 2^-96, are 0: next to later tokens they vanish in float32, and a state times such a
 * number is denormal, which takes some CPUs a hundred clocks.
 */
const LEAST_DECAY: f32 = 1.262177448e-29;
/** Rows of a panel. */
export const PANEL: i32 = 8;
const PANEL_BYTES: usize = 32;

/** The layout of a thread's work area. */
@unmanaged export class DeltaWork {
  keyDim!: i32;
  /** [CHUNK] of the chunk's tokens. */
  decays!: usize;
  betas!: usize;
  /** [CHUNK]: products of decays: from the chunk's first token to each, and from each to its last. */
  before!: usize;
  after!: usize;
  /** Unit vectors: [CHUNK, keyDim] keys, then queries; keys in panels of tokens, [CHUNK / 8, keyDim, 8]. */
  vectors!: usize;
  keyPanels!: usize;
  /** [CHUNK, CHUNK]: how the change of an earlier token i affects token t, and its output. */
  coupling!: usize;
  saying!: usize;
  /** For one panel: [2 CHUNK, 8] the state's products with keys and queries; [CHUNK, 8] changes. */
  sums!: usize;
  changes!: usize;
  /** [rows / 8, keyDim, 8] */
  panels!: usize;

  static at(work: usize, keyDim: i32): DeltaWork {
    const w = changetype<DeltaWork>(work);
    const vector = usize(keyDim) * 4;
    const each = usize(CHUNK) * 4;
    w.keyDim = keyDim;
    w.decays = work + 64;
    w.betas = w.decays + each;
    w.before = w.betas + each;
    w.after = w.before + each;
    w.coupling = w.after + each;
    w.saying = w.coupling + usize(CHUNK) * each;
    w.sums = w.saying + usize(CHUNK) * each;
    w.changes = w.sums + 2 * usize(CHUNK) * PANEL_BYTES;
    w.vectors = w.changes + usize(CHUNK) * PANEL_BYTES;
    w.keyPanels = w.vectors + 2 * usize(CHUNK) * vector;
    w.panels = w.keyPanels + usize(CHUNK) * vector;
    return w;
  }

  // @ts-ignore: decorator
  @inline key(t: i32): usize { return this.vectors + usize(t * this.keyDim) * 4; }
  // @ts-ignore: decorator
  @inline query(t: i32): usize { return this.key(CHUNK + t); }
}

/** The panels of `rows` rows of a state; 0: zeros. */
export function takePanels(w: DeltaWork, state: usize, rows: i32): void {
  if (state == 0) {
    memory.fill(w.panels, 0, usize(rows * w.keyDim) * 4);
    return;
  }
  for (let r = 0; r < rows; r++) {
    const to = placeOf(w, r);
    for (let j: usize = 0; j < usize(w.keyDim); j++, state += 4) store<f32>(to + j * PANEL_BYTES, load<f32>(state));
  }
}

export function storePanels(w: DeltaWork, state: usize, rows: i32): void {
  for (let r = 0; r < rows; r++) {
    const from = placeOf(w, r);
    for (let j: usize = 0; j < usize(w.keyDim); j++, state += 4) store<f32>(state, load<f32>(from + j * PANEL_BYTES));
  }
}

/** The offset of a row's first number among the panels. */
// @ts-ignore: decorator
@inline function placeOf(w: DeltaWork, row: i32): usize {
  return w.panels + usize(row / PANEL * w.keyDim) * PANEL_BYTES + usize(row % PANEL) * 4;
}

/**
 * Updates the panels with `count` tokens, whose unit vectors, decays and betas are in the work area. v, out: of the
 * first token.
 */
export function takeChunk(
  w: DeltaWork, out: usize, outStride: usize, v: usize, vStride: usize, rows: i32, count: i32,
): void {
  coupleTokens(w, count);
  const panelBytes = usize(w.keyDim) * PANEL_BYTES;
  let panel = w.panels;
  for (let r = 0; r < rows; r += PANEL, panel += panelBytes, v += PANEL_BYTES, out += PANEL_BYTES) {
    for (let t = 0; t < count; t += 4) {
      multiply(w, w.sums + usize(t) * PANEL_BYTES, panel, 0, t, count);
      multiply(w, w.sums + usize(CHUNK + t) * PANEL_BYTES, panel, CHUNK, t, count);
    }
    solve(w, out, outStride, v, vStride, count);
    update(w, panel, count);
  }
}

/** sums [4, 8]: a panel times the vectors [first + t, first + t + 4); past the last token, that one is repeated. */
// @ts-ignore: decorator
@inline
function multiply(w: DeltaWork, sums: usize, panel: usize, first: i32, t: i32, count: i32): void {
  const last = count - 1;
  floatPanel(
    sums, panel, F32, w.keyDim, w.key(first + t), w.key(first + min(t + 1, last)), w.key(first + min(t + 2, last)),
    w.key(first + min(t + 3, last)),
  );
}

// @ts-ignore: decorator
@inline function decayed(product: f32, decay: f32): f32 {
  const next = product * decay;
  return next < LEAST_DECAY ? 0 : next;
}

/** The products among the tokens: those of keys, of queries with keys, and of their decays. */
function coupleTokens(w: DeltaWork, count: i32): void {
  const panelBytes = usize(w.keyDim) * PANEL_BYTES;
  for (let t = 0; t < count; t++) {
    const from = w.key(t);
    const to = w.keyPanels + usize(t / PANEL) * panelBytes + usize(t % PANEL) * 4;
    for (let j: usize = 0; j < usize(w.keyDim); j++) store<f32>(to + j * PANEL_BYTES, load<f32>(from + j * 4));
  }
  for (let t = 0; t < count; t += 4)
    for (let i = 0; i <= t; i += PANEL) {
      const panel = w.keyPanels + usize(i / PANEL) * panelBytes;
      multiply(w, w.sums, panel, 0, t, count);
      multiply(w, w.sums + 4 * PANEL_BYTES, panel, CHUNK, t, count);
      for (let row: usize = 0; row < 4; row++) {
        const to = (usize(t) + row) * usize(CHUNK) * 4 + usize(i) * 4;
        memory.copy(w.coupling + to, w.sums + row * PANEL_BYTES, PANEL_BYTES);
        memory.copy(w.saying + to, w.sums + (4 + row) * PANEL_BYTES, PANEL_BYTES);
      }
    }
  let all: f32 = 1;
  for (let t = 0; t < count; t++) {
    const decay = load<f32>(w.decays + usize(t) * 4);
    const beta = load<f32>(w.betas + usize(t) * 4);
    const row = usize(t * CHUNK) * 4;
    store<f32>(w.after + usize(t) * 4, 1);
    for (let i: usize = 0; i < usize(t) * 4; i += 4) {
      const between = decayed(load<f32>(w.after + i), decay);
      store<f32>(w.after + i, between);
      store<f32>(w.coupling + row + i, -beta * between * load<f32>(w.coupling + row + i));
      store<f32>(w.saying + row + i, between * load<f32>(w.saying + row + i));
    }
    all = decayed(all, decay);
    store<f32>(w.before + usize(t) * 4, all);
  }
}

/** Changes and outputs of a panel's rows, forward over the tokens; then the changes scaled to after the last one. */
function solve(w: DeltaWork, out: usize, outStride: usize, v: usize, vStride: usize, count: i32): void {
  const end = usize(count) * PANEL_BYTES;
  let coupling = w.coupling;
  let saying = w.saying;
  let scalar: usize = 0;
  for (let to: usize = 0; to < end; to += PANEL_BYTES) {
    const before = load<f32>(w.before + scalar);
    const beta = load<f32>(w.betas + scalar);
    const betas = f32x4.splat(beta);
    const askings = f32x4.splat(-beta * before);
    const befores = f32x4.splat(before);
    const known = w.sums + to;
    const said = known + usize(CHUNK) * PANEL_BYTES;
    let a = madd(askings, v128.load(known), f32x4.mul(betas, v128.load(v)));
    let b = madd(askings, v128.load(known, 16), f32x4.mul(betas, v128.load(v, 16)));
    let c = f32x4.mul(befores, v128.load(said));
    let d = f32x4.mul(befores, v128.load(said, 16));
    let weight: usize = 0;
    for (let from: usize = 0; from < to; from += PANEL_BYTES, weight += 4) {
      const e = v128.load(w.changes + from);
      const f = v128.load(w.changes + from, 16);
      const taken = v128.load32_splat(coupling + weight);
      const told = v128.load32_splat(saying + weight);
      a = madd(taken, e, a);
      b = madd(taken, f, b);
      c = madd(told, e, c);
      d = madd(told, f, d);
    }
    const own = v128.load32_splat(saying + weight);
    v128.store(w.changes + to, a);
    v128.store(w.changes + to, b, 16);
    v128.store(out, madd(own, a, c));
    v128.store(out, madd(own, b, d), 16);
    scalar += 4;
    v += vStride;
    out += outStride;
    coupling += usize(CHUNK) * 4;
    saying += usize(CHUNK) * 4;
  }
  scalar = 0;
  for (let at: usize = 0; at < end; at += PANEL_BYTES, scalar += 4) {
    const after = v128.load32_splat(w.after + scalar);
    v128.store(w.changes + at, f32x4.mul(after, v128.load(w.changes + at)));
    v128.store(w.changes + at, f32x4.mul(after, v128.load(w.changes + at, 16)), 16);
  }
}

/** panel = decay panel + keys^T changes, four columns at a time. */
function update(w: DeltaWork, panel: usize, count: i32): void {
  const vector = usize(w.keyDim) * 4;
  const decay = v128.load32_splat(w.before + usize(count - 1) * 4);
  const end = usize(count) * PANEL_BYTES;
  const changes = w.changes;
  for (let j: usize = 0; j < vector; j += 16, panel += 4 * PANEL_BYTES) {
    let a0 = f32x4.mul(decay, v128.load(panel)), b0 = f32x4.mul(decay, v128.load(panel, 16));
    let a1 = f32x4.mul(decay, v128.load(panel, 32)), b1 = f32x4.mul(decay, v128.load(panel, 48));
    let a2 = f32x4.mul(decay, v128.load(panel, 64)), b2 = f32x4.mul(decay, v128.load(panel, 80));
    let a3 = f32x4.mul(decay, v128.load(panel, 96)), b3 = f32x4.mul(decay, v128.load(panel, 112));
    let key = w.vectors + j;
    for (let at: usize = 0; at < end; at += PANEL_BYTES, key += vector) {
      const e = v128.load(changes + at);
      const f = v128.load(changes + at, 16);
      let k = v128.load32_splat(key);
      a0 = madd(k, e, a0);
      b0 = madd(k, f, b0);
      k = v128.load32_splat(key, 4);
      a1 = madd(k, e, a1);
      b1 = madd(k, f, b1);
      k = v128.load32_splat(key, 8);
      a2 = madd(k, e, a2);
      b2 = madd(k, f, b2);
      k = v128.load32_splat(key, 12);
      a3 = madd(k, e, a3);
      b3 = madd(k, f, b3);
    }
    v128.store(panel, a0);
    v128.store(panel, b0, 16);
    v128.store(panel, a1, 32);
    v128.store(panel, b1, 48);
    v128.store(panel, a2, 64);
    v128.store(panel, b2, 80);
    v128.store(panel, a3, 96);
    v128.store(panel, b3, 112);
  }
}
