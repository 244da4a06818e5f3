// Encodes head vectors as int4. Each row of 32 threads does one vector, and four threads do a group: each the eight dims whose codes
// share a word of keys. The kernel declares HEAD_DIM, GROUPS, ROWS, INT4 and `vectors` [ROWS][HEAD_DIM], and appends int4; all threads
// of a workgroup take part.

const WORDS: u32 = GROUPS * 4u;
// The least and the largest of each eight dims.
var<workgroup> ends: array<vec2<f32>, select(1u, ROWS * WORDS, INT4)>;

// The first of a word's eight dims, and whether its second four are dims of the head: with 80 dims, the last group has only 16.
fn firstOf(word: u32) -> u32 {
  return word / 4u * 32u + word % 4u * 4u;
}

fn isWhole(word: u32, dims: u32) -> bool {
  return word / 4u * 32u + 16u < dims;
}

fn fourAt(at: u32) -> vec4<f32> {
  return vec4<f32>(vectors[at], vectors[at + 1u], vectors[at + 2u], vectors[at + 3u]);
}

// Must be called before wordRange. dims: dims of the vectors, HEAD_DIM at most.
fn findEnds(mine: u32, row: u32, lane: u32, dims: u32) {
  for (var word = lane; word < (dims + 31u) / 32u * 4u; word += 32u) {
    let low = fourAt(mine + firstOf(word));
    var least = low;
    var most = low;
    if (isWhole(word, dims)) {
      let high = fourAt(mine + firstOf(word) + 16u);
      least = min(low, high);
      most = max(low, high);
    }
    let leastTwo = min(least.xy, least.zw);
    let mostTwo = max(most.xy, most.zw);
    ends[row * WORDS + word] = vec2<f32>(min(leastTwo.x, leastTwo.y), max(mostTwo.x, mostTwo.y));
  }
  workgroupBarrier();
}

// The range of the word's group.
fn wordRange(row: u32, word: u32) -> Range {
  let first = row * WORDS + word / 4u * 4u;
  let a = ends[first];
  let b = ends[first + 1u];
  let c = ends[first + 2u];
  let d = ends[first + 3u];
  return rangeOf(min(min(a.x, b.x), min(c.x, d.x)), max(max(a.y, b.y), max(c.y, d.y)));
}
