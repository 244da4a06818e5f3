// Finds the KEEP largest of up to 256 x perThread elements, sorted. An element is a pair (key, id): keys have the order of their
// logits; of equal keys the lower id counts as larger; key 0 is not a candidate. The kernel declares `fn elementAt(index) ->
// vec2<u32>` and `const KEEP`, a power of two up to 256. The idea: every lane finds the largest of its own elements. An element below
// the KEEP-th of these 256 cannot be kept, and at most KEEP lanes have other elements, so at most KEEP x perThread elements are left,
// few enough to sort.

const LANES = 256u;
// The largest allowed KEEP x perThread.
const PLACES = 1024u;

var<workgroup> pairs: array<vec2<u32>, PLACES>;
var<workgroup> least: vec2<u32>;
var<workgroup> found: atomic<u32>;
var<workgroup> foundCount: u32;

// -Infinity becomes 0; -0 counts as 0; NaN is the largest, so that it is noticed at the end of the tree.
fn keyOf(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return 0xffffffffu;
  }
  if (bits == 0xff800000u) {
    return 0u;
  }
  if (bits == 0x80000000u) {
    return 0x80000000u;
  }
  return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

const INFINITY_KEY = 0xff800000u;

// The logit's bits; for key 0 those of -Infinity.
fn bitsOf(key: u32) -> u32 {
  if (key == 0u) {
    return 0xff800000u;
  }
  return select(~key, key & 0x7fffffffu, (key & 0x80000000u) != 0u);
}

fn isBefore(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.x > b.x || (a.x == b.x && a.y < b.y);
}

// Leaves the largest in pairs[0 ..], largest first, and returns their number, at most KEEP.
fn keepTop(first: u32, perThread: u32, lane: u32) -> u32 {
  var best = vec2<u32>(0u, 0xffffffffu);
  for (var i = 0u; i < perThread; i++) {
    let element = elementAt(first + i * LANES + lane);
    if (isBefore(element, best)) {
      best = element;
    }
  }
  pairs[lane] = best;
  if (lane == 0u) {
    atomicStore(&found, 0u);
    least = vec2<u32>(0u, 0u);
  }
  workgroupBarrier();
  if (KEEP == 1u) {
    keepLargest(lane);
    return min(1u, workgroupUniformLoad(&pairs[0]).x);
  }
  if (KEEP < LANES && best.x > 0u && rankOf(best, LANES) == KEEP - 1u) {
    least = best;
  }
  let bound = workgroupUniformLoad(&least);
  for (var i = 0u; i < perThread; i++) {
    let element = elementAt(first + i * LANES + lane);
    if (element.x > 0u && !isBefore(bound, element)) {
      pairs[atomicAdd(&found, 1u)] = element;
    }
  }
  workgroupBarrier();
  if (lane == 0u) {
    foundCount = atomicLoad(&found);
  }
  let count = workgroupUniformLoad(&foundCount);
  if (count <= LANES) {
    rankPairs(count, lane);
  } else {
    sortPairs(count, lane);
  }
  return min(count, KEEP);
}

fn keepLargest(lane: u32) {
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    if (lane < half && isBefore(pairs[lane + half], pairs[lane])) {
      pairs[lane] = pairs[lane + half];
    }
    workgroupBarrier();
  }
}

// The number of pairs[0 .. count) that precede it.
fn rankOf(pair: vec2<u32>, count: u32) -> u32 {
  var rank = 0u;
  for (var i = 0u; i < count; i++) {
    rank += select(0u, 1u, isBefore(pairs[i], pair));
  }
  return rank;
}

// Sorts up to one pair per lane: each lane counts the pairs before its own. Reads are broadcasts, and there are only two barriers.
fn rankPairs(count: u32, lane: u32) {
  let mine = pairs[lane];
  let rank = select(lane, rankOf(mine, count), lane < count);
  workgroupBarrier();
  if (lane < count) {
    pairs[rank] = mine;
  }
  workgroupBarrier();
}

// Bitonic merge sort of pairs[0 .. count). The first round of each merge compares mirrored indices, so that every exchange moves the
// larger pair to the lower index. Indices from `count` on count as smallest and never move.
fn sortPairs(count: u32, lane: u32) {
  for (var size = 2u; size < 2u * count; size *= 2u) {
    let half = size / 2u;
    for (var i = lane; i < PLACES / 2u; i += LANES) {
      let begin = (i / half) * size;
      exchange(begin + i % half, begin + size - 1u - i % half, count);
    }
    workgroupBarrier();
    for (var stride = half / 2u; stride > 0u; stride /= 2u) {
      for (var i = lane; i < PLACES / 2u; i += LANES) {
        let low = 2u * i - i % stride;
        exchange(low, low + stride, count);
      }
      workgroupBarrier();
    }
  }
}

fn exchange(low: u32, high: u32, count: u32) {
  if (high >= count) {
    return;
  }
  let a = pairs[low];
  let b = pairs[high];
  if (isBefore(b, a)) {
    pairs[low] = b;
    pairs[high] = a;
  }
}
