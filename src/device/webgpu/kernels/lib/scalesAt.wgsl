// The scales of a group of a row, for both halves (scalesOf in lib/weight). The kernel declares `params` and `scales`; it appends
// weight.

fn scalesAt(row: u32, group: u32) -> vec4<f32> {
  let at = scaleAt(row, group, params.groups);
  var next = 0u;
  if (HAS_NEXT) {
    next = scales[nextAt(at, group)];
  }
  return scalesOf(scales[at], next, group);
}
