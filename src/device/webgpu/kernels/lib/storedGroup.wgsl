// A group of a row of packed weights as it is stored. The kernel declares `params`, `codes` and `scales`; it appends weight.

struct Group {
  first: vec4<u32>,
  second: vec4<u32>,
  // For scalesOf and f16Scales.
  scales: vec2<u32>,
}

// The group of a row. Rows past the end repeat the last one and are not written.
fn groupAt(row: u32, group: u32) -> Group {
  let groups = params.groups;
  let inside = min(row, params.rows - 1u);
  var loaded: Group;
  let at = scaleAt(inside, group, groups);
  loaded.scales.x = scales[at];
  if (HAS_NEXT) {
    loaded.scales.y = scales[nextAt(at, group)];
  }
  loaded.first = codes[firstAt(inside, group, groups)];
  if (HAS_SECOND) {
    loaded.second = codes[secondAt(inside, group, groups)];
  }
  return loaded;
}
