// Tiles of products of prompts: what a workgroup computes, whether rows of x have factors (lib/rowFactor.wgsl), and how parts of a tile
// are written where they cannot be stored directly. The kernel includes promptProduct, declares `x`, `bias`, WORKGROUP, SUBGROUP,
// TILE_ROWS, TILE_TOKENS and UNIT (the number of groups that a split is a multiple of), and has two functions: storePart stores a
// fragment in workgroup memory, and partItem reads four of its values there. It appends step.

// A tile of rows, groups of its columns, and the place of its row 0 of the first token.
struct Work {
  tile: u32,
  group: u32,
  end: u32,
  isWhole: bool,
  base: u32,
  stride: u32,
}

// Workgroups after those of whole tiles have one split of a tile each.
fn workOf(index: u32) -> Work {
  if (index < params.whole) {
    return Work(index, 0u, params.groups, true, params.firstColumn, params.outCols);
  }
  let tiles = (params.rows + TILE_ROWS - 1u) / TILE_ROWS - params.whole;
  let split = (index - params.whole) / tiles;
  let units = params.groups / UNIT;
  let stride = params.rows - params.whole * TILE_ROWS;
  return Work(
    params.whole + (index - params.whole) % tiles,
    units * split / params.splits * UNIT,
    units * (split + 1u) / params.splits * UNIT,
    false,
    split * params.tokens * stride - params.whole * TILE_ROWS,
    stride,
  );
}

fn factorOfToken(token: u32) -> f32 {
  return bitcast<f32>(x[params.factorsAt + token].x);
}

/// Notes whether the tile's tokens of this step have factors; the result is read after the groups' barriers.
fn noteFactors(firstToken: u32, local: u32) {
  let live = min(select(step.tokens, step.outputs, OUTPUTS), params.tokens);
  if (local == 0u) {
    atomicStore(&scaledRows, 0u);
  }
  workgroupBarrier();
  for (var token = firstToken + local; token < min(firstToken + TILE_TOKENS, live); token += WORKGROUP) {
    if (factorOfToken(token) != 1.0) {
      atomicStore(&scaledRows, 1u);
    }
  }
}

/// Whether fragments of a tile are stored directly: all of it is in `out`, and it has neither factors nor a bias.
fn isPlain(firstRow: u32, firstToken: u32, local: u32) -> bool {
  if (local == 0u) {
    isScaled = atomicLoad(&scaledRows);
  }
  let isComplete = firstRow + TILE_ROWS <= params.rows && firstToken + TILE_TOKENS <= params.tokens;
  return workgroupUniformLoad(&isScaled) == 0u && isComplete && !HAS_BIAS;
}

/// Writes a fragment at the edge of `out`, or with factors or a bias, through workgroup memory, which is no longer needed.
fn writeEdge(fragment: Result, work: Work, firstRow: u32, firstToken: u32, local: u32) {
  let place = local / SUBGROUP * 64u;
  workgroupBarrier();
  storePart(place, fragment);
  workgroupBarrier();
  for (var i = local % SUBGROUP; i < 256u; i += SUBGROUP) {
    let token = firstToken + i / 16u;
    let row = firstRow + i % 16u;
    if (token < params.tokens && row < params.rows) {
      var value = bitcast<f32>(partItem(place + i / 4u)[i % 4u]) * factorOfToken(token);
      if (HAS_BIAS) {
        value += bias[params.firstColumn + row];
      }
      let at = work.base + token * work.stride + row;
      if (work.isWhole) {
        out[at] = value;
      } else {
        sums[at] = value;
      }
    }
  }
}
