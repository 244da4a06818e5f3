// Mixtures of experts: the experts of each token (route), the tokens of each expert (groupPicks), products with the
// experts' rows of a stacked matrix (expertMatmul), and the weighted sum of the results (combine).
//
// A pick is a token's n-th expert, number t * k + n. Picks are sorted by expert once for all products, so that each
// chosen expert's panels are read, and in prompts unpacked, once for all its picks; other panels are not read.
import { exp2Scalar, madd } from "./exp";
import { Product, multiply } from "./matmul";
import { PANEL_ROWS } from "./matmul-layout";

const LOG2_E: f32 = 1.4426950408889634;

/**
 * out [rows, 2k] f32: ids of the k largest of logits [rows, experts] (ties: lowest id first), then their weights:
 * softmax over all experts, divided by the sum of the chosen ones if `normalise`, times weights [experts] unless that
 * is 0. If a logit is NaN, the weights are NaN and the ids are still valid. Rows [first, last).
 */
export function routeRows(
  out: usize, logits: usize, experts: i32, k: i32, normalise: bool, weights: usize, first: i32, last: i32,
): void {
  for (let t = first; t < last; t++) {
    const row = logits + (usize(t * experts) << 2);
    const ids = out + (usize(2 * t * k) << 2);
    const to = ids + (usize(k) << 2);
    let before: f32 = f32.POSITIVE_INFINITY;
    let beforeId = -1;
    for (let i: usize = 0; i < usize(k); i++) {
      let most: f32 = f32.NaN;
      let id = -1;
      for (let e = 0; e < experts; e++) {
        const x = load<f32>(row + (usize(e) << 2));
        const isNext = x < before || (x == before && e > beforeId);
        if (isNext && (id < 0 || x > most)) {
          most = x;
          id = e;
        }
      }
      store<f32>(ids + (i << 2), f32(max(id, 0)));
      store<f32>(to + (i << 2), most);
      before = most;
      beforeId = id;
    }
    const largest = load<f32>(to);
    let total: f32 = 0;
    for (let e: usize = 0; e < usize(experts); e++) total += powerOf(load<f32>(row + (e << 2)), largest);
    let chosen: f32 = 0;
    for (let i: usize = 0; i < usize(k); i++) {
      const weight = powerOf(load<f32>(to + (i << 2)), largest) / total;
      store<f32>(to + (i << 2), weight);
      chosen += weight;
    }
    for (let i: usize = 0; i < usize(k); i++) {
      let weight = load<f32>(to + (i << 2));
      if (normalise) weight /= chosen;
      if (weights != 0) weight *= load<f32>(weights + (usize(load<f32>(ids + (i << 2))) << 2));
      store<f32>(to + (i << 2), weight);
    }
  }
}

/** e^(x - largest); NaN if x is NaN. */
// @ts-ignore: decorator
@inline function powerOf(x: f32, largest: f32): f32 {
  const power = (x - largest) * LOG2_E;
  return power == power ? exp2Scalar(power) : f32.NaN;
}

/**
 * Sorts picks [rows * k] by expert, ties in their order: order u32 [rows * k], and starts u32 [experts + 1], the start
 * of each expert's picks in it. picks: written by routeRows.
 */
export function groupPicks(order: usize, starts: usize, picks: usize, experts: i32, k: i32, rows: i32): void {
  memory.fill(starts, 0, usize(experts + 1) << 2);
  for (let t = 0; t < rows; t++) {
    for (let n = 0; n < k; n++) {
      const count = starts + (usize(expertOf(picks, experts, k, t, n)) << 2);
      store<u32>(count, load<u32>(count) + 1);
    }
  }
  let end: u32 = 0;
  for (let e: usize = 0; e <= usize(experts); e++) {
    end += load<u32>(starts + (e << 2));
    store<u32>(starts + (e << 2), end);
  }
  // From the last pick back, each takes the place before its expert's end, which thereby becomes the start.
  for (let t = rows - 1; t >= 0; t--) {
    for (let n = k - 1; n >= 0; n--) {
      const start = starts + (usize(expertOf(picks, experts, k, t, n)) << 2);
      const at = load<u32>(start) - 1;
      store<u32>(start, at);
      store<u32>(order + (usize(at) << 2), t * k + n);
    }
  }
}

// @ts-ignore: decorator
@inline function expertOf(picks: usize, experts: i32, k: i32, t: i32, n: i32): i32 {
  const id = load<f32>(picks + (usize(2 * t * k + n) << 2));
  return id >= 0 && id < f32(experts) ? i32(id) : 0;
}

/**
 * The most panels that the rows of one expert touch: if their number is not a multiple of 8 they begin and end within
 * panels.
 */
// @ts-ignore: decorator
@inline function panelsOf(rows: i32): i32 {
  return rows % PANEL_ROWS == 0 ? rows / PANEL_ROWS : rows / PANEL_ROWS + 2;
}

// @ts-ignore: decorator
@inline function picksOf(starts: usize, expert: i32): i32 {
  const at = starts + (usize(expert) << 2);
  return load<i32>(at, 4) - load<i32>(at);
}

/** Units of expertMatmul: (chosen expert, panel). rows: of one expert. */
export function expertUnits(starts: usize, experts: i32, rows: i32): i32 {
  let picked = 0;
  for (let e = 0; e < experts; e++) picked += i32(picksOf(starts, e) > 0);
  return picked * panelsOf(rows);
}

/** The most units that a thread takes at once: with more than one expert's, threads would be idle at the end. */
export function expertGrain(units: i32, rows: i32, pieces: i32): i32 {
  return max(1, min(panelsOf(rows), units / pieces));
}

/**
 * y [picks, rows] f32 = rows e * rows .. of W x + bias, where e is each pick's expert. x [picks / share, cols] f32 is
 * for float weights, q (quantizeRows of x) for the others. w: packed matrix [experts * rows, cols]; bias [experts *
 * rows] f32 or 0; order, starts: from groupPicks. Units [first, last). scratch: matmulScratchBytes(), this thread's
 * own. Returns the number of panels of weights that it has read.
 */
export function expertMatmul(
  y: usize, x: usize, q: usize, w: usize, type: i32, rows: i32, cols: i32, bias: usize, experts: i32, share: i32,
  order: usize, starts: usize, first: i32, last: i32, scratch: usize,
): i32 {
  const product = changetype<Product>(scratch);
  product.stride = usize(rows) * 4;
  product.x = x;
  product.q = q;
  product.w = w;
  product.bias = bias;
  product.type = type;
  product.cols = cols;
  product.share = share;
  const perExpert = panelsOf(rows);
  let read = 0;
  let unit = 0;
  for (let e = 0; e < experts && unit < last; e++) {
    const picks = picksOf(starts, e);
    if (picks == 0) continue;
    const panel = (e * rows) / PANEL_ROWS;
    const end = ((e + 1) * rows + PANEL_ROWS - 1) / PANEL_ROWS;
    const from = panel + max(first - unit, 0);
    const to = min(end, panel + min(last - unit, perExpert));
    if (from < to) {
      product.y = y - usize(e) * product.stride;
      product.firstRow = e * rows;
      product.lastRow = (e + 1) * rows;
      product.tokens = picks;
      product.order = order + (usize(load<u32>(starts + (usize(e) << 2))) << 2);
      multiply(product, from, to);
      read += to - from;
    }
    unit += perExpert;
  }
  return read;
}

/** Columns of a unit of combine. */
const PIECE: i32 = 256;

export function combineUnits(rows: i32, cols: i32): i32 {
  return rows * ((cols + PIECE - 1) / PIECE);
}

/** out [rows, cols] = sum over n of weight n times x [rows, k, cols], in order. picks: routeRows. Units [first, last). */
export function combine(out: usize, x: usize, picks: usize, cols: i32, k: i32, first: i32, last: i32): void {
  const pieces = (cols + PIECE - 1) / PIECE;
  const stride = usize(cols) << 2;
  for (let unit = first; unit < last; unit++) {
    const t = unit / pieces;
    const begin = usize((unit % pieces) * PIECE) << 2;
    const end = min(begin + (usize(PIECE) << 2), stride);
    const from = x + usize(t) * usize(k) * stride;
    const to = out + usize(t) * stride;
    const weights = picks + (usize((2 * t + 1) * k) << 2);
    let i = begin;
    for (; i + 16 <= end; i += 16) {
      let sum = f32x4.splat(0);
      for (let n: usize = 0; n < usize(k); n++) {
        sum = madd(v128.load32_splat(weights + (n << 2)), v128.load(from + n * stride + i), sum);
      }
      v128.store(to + i, sum);
    }
    for (; i < end; i += 4) {
      let sum: f32 = 0;
      for (let n: usize = 0; n < usize(k); n++) sum += load<f32>(weights + (n << 2)) * load<f32>(from + n * stride + i);
      store<f32>(to + i, sum);
    }
  }
}
