// Loads a tile of weights and one of activations, and expands them to f16 in workgroup memory, for kernels with subgroup matrices. The
// kernel declares the bindings `codes`, `scales`, `x`, Params with rows and groups, the workgroup's `weightTile` and `xTile`, and
// WORKGROUP, TILE_ROWS, TILE_TOKENS and STRIDE. Its functions weightRowOf and xRowOf give the row of `codes` for a row of the product,
// and the row of `x` for a token. It appends weightHalves.

// What an invocation loads for the tiles: half groups of weights (eight columns and the eight that are 16 further), and items of x.
const WEIGHT_LOADS: u32 = TILE_ROWS * 2u / WORKGROUP;
const X_LOADS: u32 = TILE_TOKENS * 4u / WORKGROUP;
struct Loads {
  scales: array<vec2<u32>, WEIGHT_LOADS>,
  codes: array<array<vec2<u32>, 4>, WEIGHT_LOADS>,
  x: array<vec4<u32>, X_LOADS>,
}

/// The tile's row of an invocation's half group. Eight neighbours take rows two apart, which are in different banks.
fn weightRow(index: u32) -> u32 {
  return index / 16u * 8u + index / 2u % 4u * 2u + index / 8u % 2u;
}

/// The tile's token of an invocation's item. Eight neighbours take two tokens four apart, for the same reason.
fn xToken(index: u32) -> u32 {
  return index / 32u * 8u + index / 4u % 2u * 4u + index / 8u % 4u;
}

/// Loads one invocation's share of a tile. Rows and tokens past the end repeat the last one.
fn load(firstRow: u32, firstToken: u32, lastToken: u32, group: u32, local: u32) -> Loads {
  var loads: Loads;
  let groups = params.groups;
  for (var i = 0u; i < WEIGHT_LOADS; i++) {
    let index = i * WORKGROUP + local;
    let row = weightRowOf(min(firstRow + weightRow(index), params.rows - 1u));
    let half = index % 2u;
    if (CODES == F32 || CODES == F16 || CODES == BF16) {
      let at = (row * groups + group) * 8u + half * 2u;
      loads.codes[i] = array<vec2<u32>, 4>(codes[at], codes[at + 1u], codes[at + 4u], codes[at + 5u]);
    } else {
      let at = scaleAt(row, group, groups);
      loads.scales[i].x = scales[at];
      if (HAS_NEXT) {
        loads.scales[i].y = scales[nextAt(at, group)];
      }
      if (CODES == BYTES) {
        loads.codes[i][0] = codes[(row * 2u * groups + group) * 2u + half];
        loads.codes[i][1] = codes[((row * 2u + 1u) * groups + group) * 2u + half];
      } else if (CODES == BITS || CODES == PAIRS || CODES == THIRDS) {
        // The word that contains the half group.
        let word = wordAt(row, group, groups, half * 2u);
        loads.codes[i][0].x = codes[word / 2u][word % 2u];
      } else {
        loads.codes[i][0] = codes[firstAt(row, group, groups) * 2u + half];
      }
      if (HAS_UPPER) {
        let upper = upperAt(row, group, groups, half * 2u);
        loads.codes[i][1].x = codes[upper / 2u][upper % 2u];
      }
    }
  }
  for (var i = 0u; i < X_LOADS; i++) {
    let index = i * WORKGROUP + local;
    let token = xRowOf(min(firstToken + xToken(index), lastToken));
    loads.x[i] = x[(token * groups + group) * 4u + index % 4u];
  }
  return loads;
}

/// Expands the result of `load` into the tiles.
fn store(loads: ptr<function, Loads>, group: u32, local: u32) {
  for (var i = 0u; i < WEIGHT_LOADS; i++) {
    let index = i * WORKGROUP + local;
    let at = weightRow(index) * STRIDE + index % 2u;
    let words = (*loads).codes[i];
    if (CODES == F32 || CODES == F16 || CODES == BF16) {
      weightTile[at] = vec4<u32>(halves(words[0]), halves(words[1]));
      weightTile[at + 2u] = vec4<u32>(halves(words[2]), halves(words[3]));
    } else {
      let scale = f16Scales((*loads).scales[i], group);
      var low = words[0];
      var high = words[1];
      if (CODES != BYTES) {
        let w = index % 2u * 2u;
        let upper = (*loads).codes[i][1].x;
        var nibbles = words[0];
        if (CODES == BITS || CODES == PAIRS || CODES == THIRDS) {
          nibbles = vec2<u32>(nibbleWord(words[0].x, upper, w), nibbleWord(words[0].x, upper, w + 1u));
        }
        let lows = nibbles & vec2<u32>(0x0f0f0f0fu);
        let highs = (nibbles >> vec2<u32>(4u)) & vec2<u32>(0x0f0f0f0fu);
        low = vec2<u32>(codesOf(lows.x), codesOf(lows.y));
        high = vec2<u32>(codesOf(highs.x), codesOf(highs.y));
        if (IS_JOINED) {
          let uppers = vec2<u32>(upperWord(upper, w), upperWord(upper, w + 1u));
          low = vec2<u32>(joinLow(nibbles.x, uppers.x), joinLow(nibbles.y, uppers.y));
          high = vec2<u32>(joinHigh(nibbles.x, uppers.x), joinHigh(nibbles.y, uppers.y));
        }
      }
      weightTile[at] = vec4<u32>(expand(low.x, scale.xy), expand(low.y, scale.xy));
      weightTile[at + 2u] = vec4<u32>(expand(high.x, scale.zw), expand(high.y, scale.zw));
    }
  }
  for (var i = 0u; i < X_LOADS; i++) {
    let index = i * WORKGROUP + local;
    xTile[xToken(index) * STRIDE + index % 4u] = (*loads).x[i];
  }
}
