// Encodes head vectors as rotated codes, with the same bits as src/cache/codec-rotated.ts: after the first rounding there are only
// integers, which float32 represents exactly. Each row of 32 threads does one vector. The kernel declares HEAD_DIM, KEY_DIM, ROWS,
// RQ4, CODE_BITS and `vectors` [ROWS][HEAD_DIM], and appends half, rotation and hadamard; all threads of a workgroup take part.

// Multipliers of the step, times 1024, for 2 to 4 bits.
const STEPS = array<array<u32, 5>, 3>(
  array<u32, 5>(714u, 816u, 918u, 1020u, 1122u),
  array<u32, 5>(420u, 480u, 540u, 600u, 660u),
  array<u32, 5>(240u, 275u, 309u, 343u, 378u));
const TALLIES: u32 = 10u;
const MOST_CODE: u32 = (1u << CODE_BITS) - 1u;
const LARGEST_SCALE: f32 = floor(65460.0 / f32(MOST_CODE));
// For each row and lane: numbers to be added or compared.
var<workgroup> tallies: array<i32, select(1u, ROWS * TALLIES * 32u, RQ4)>;

fn tallyAt(row: u32, tally: u32, lane: u32) -> u32 {
  return (row * TALLIES + tally) * 32u + lane;
}

// The largest of a row's 32 values. None is negative, so that their bits have the same order as the floats.
fn rowLargest(value: f32, row: u32, lane: u32) -> f32 {
  tallies[tallyAt(row, 0u, lane)] = bitcast<i32>(value);
  workgroupBarrier();
  var largest = 0i;
  for (var i = 0u; i < 32u; i++) {
    largest = max(largest, tallies[tallyAt(row, 0u, i)]);
  }
  workgroupBarrier();
  return bitcast<f32>(largest);
}

// 2^exponent, for normal numbers.
fn powerOfTwo(exponent: i32) -> f32 {
  return bitcast<f32>(u32(exponent + 127) << 23u);
}

fn exponentOf(x: f32) -> i32 {
  return i32(bitcast<u32>(x) >> 23u) - 127;
}

// Replaces a row's vector by its codes; returns the bits of its scale.
fn encodeRow(isKey: bool, mine: u32, row: u32, lane: u32) -> u32 {
  let dims = select(HEAD_DIM, KEY_DIM, isKey);
  var largest = 0.0;
  for (var d = lane; d < dims; d += 32u) {
    largest = max(largest, min(abs(vectors[mine + d]), 65504.0));
  }
  let most = rowLargest(largest, row, lane);
  let empty = most < 9.094947017729282e-13;
  let first = select(exponentOf(most) - 13, 0, empty);
  for (var d = lane; d < dims; d += 32u) {
    let x = clamp(vectors[mine + d], -65504.0, 65504.0);
    vectors[mine + d] = select(flippedSign(round(x * powerOfTwo(-first)), d), 0.0, empty);
  }
  hadamardRow(mine, lane, dims);

  largest = 0.0;
  for (var d = lane; d < dims; d += 32u) {
    largest = max(largest, abs(vectors[mine + d]));
  }
  let second = select(exponentOf(rowLargest(largest, row, lane)) - 10, 0, empty);
  var squares = 0u;
  for (var d = lane; d < dims; d += 32u) {
    let w = round(vectors[mine + d] * powerOfTwo(-second));
    vectors[mine + d] = w;
    squares += u32(w * w);
  }
  tallies[tallyAt(row, 0u, lane)] = bitcast<i32>(squares);
  workgroupBarrier();
  squares = 0u;
  for (var i = 0u; i < 32u; i++) {
    squares += bitcast<u32>(tallies[tallyAt(row, 0u, i)]);
  }
  workgroupBarrier();

  let root = wholeRoot(squares / dims);
  for (var k = 0u; k < 5u; k++) {
    let inverse = 1.0 / f32(stepOf(root, k));
    var products = 0i;
    var codeSquares = 0i;
    for (var d = lane; d < dims; d += 32u) {
      let w = vectors[mine + d];
      let twice = 2 * i32(rotatedCode(w, inverse)) - i32(MOST_CODE);
      products += i32(w) * twice;
      codeSquares += twice * twice;
    }
    tallies[tallyAt(row, 2u * k, lane)] = products;
    tallies[tallyAt(row, 2u * k + 1u, lane)] = codeSquares;
  }
  workgroupBarrier();
  if (lane < TALLIES) {
    var sum = 0i;
    for (var i = 0u; i < 32u; i++) {
      sum += tallies[tallyAt(row, lane, i)];
    }
    tallies[tallyAt(row, lane, 0u)] = sum;
  }
  workgroupBarrier();
  var best = 0u;
  var products = 0i;
  var codeSquares = 1i;
  for (var k = 0u; k < 5u; k++) {
    let p = tallies[tallyAt(row, 2u * k, 0u)];
    let q = tallies[tallyAt(row, 2u * k + 1u, 0u)];
    let square = f32(p) * f32(p);
    let bestSquare = f32(products) * f32(products);
    if (square * f32(codeSquares) > bestSquare * f32(q)) {
      best = k;
      products = p;
      codeSquares = q;
    }
  }
  let inverse = 1.0 / f32(stepOf(root, best));
  for (var d = lane; d < dims; d += 32u) {
    vectors[mine + d] = f32(rotatedCode(vectors[mine + d], inverse));
  }
  workgroupBarrier();
  if (empty) {
    return 0u;
  }
  // x = 2^(first + second) / block D H w, and the transpose of R is 2^-h D H.
  let logBlock = i32(firstTrailingBit(dims));
  let exponent = 1 + first + second - logBlock + logBlock / 2;
  if (isKey) {
    return halfBits(min(quotient(squares, u32(products), exponent), LARGEST_SCALE));
  }
  return halfBits(min(quotient(u32(products), u32(codeSquares), exponent), LARGEST_SCALE));
}

fn stepOf(root: u32, k: u32) -> u32 {
  var steps = STEPS[CODE_BITS - 2u];
  return max(1u, (root * steps[k]) >> 10u);
}

// (w + 1/2) / step is never near an integer.
fn rotatedCode(w: f32, inverse: f32) -> u32 {
  return u32(clamp(f32(MOST_CODE / 2u + 1u) + floor((w + 0.5) * inverse), 0.0, f32(MOST_CODE)));
}

// floor(sqrt(x)) for x below 2^23.
fn wholeRoot(x: u32) -> u32 {
  var root = u32(sqrt(f32(x)));
  if (root * root > x) {
    root -= 1u;
  }
  if ((root + 1u) * (root + 1u) <= x) {
    root += 1u;
  }
  return root;
}

// float32(a) / b times a power of two, correctly rounded; a > 0, 0 < b < 2^24.
fn quotient(a: u32, b: u32, exponent: i32) -> f32 {
  // Both are shifted to 24 bits; a is rounded.
  let over = max(8u, countLeadingZeros(a)) - countLeadingZeros(a);
  let roundedA = roundEven(a >> over, (a & ((1u << over) - 1u)) * 2u, 1u << over);
  let carry = roundedA >> 24u;
  let topA = countLeadingZeros(roundedA >> carry) - 8u;
  let topB = countLeadingZeros(b) - 8u;
  var left = (roundedA >> carry) << topA;
  let divisor = b << topB;
  var power = i32(over + carry + topB) - i32(topA) + exponent - 23;
  if (left < divisor) {
    left <<= 1u;
    power -= 1;
  }
  left -= divisor;
  var whole = 1u;
  for (var i = 0u; i < 24u; i++) {
    left <<= 1u;
    let bit = u32(left >= divisor);
    left -= bit * divisor;
    whole = (whole << 1u) | bit;
  }
  let mantissa = roundEven(whole >> 1u, (whole & 1u) * 2u + u32(left != 0u), 2u);
  return f32(mantissa) * powerOfTwo(power);
}
