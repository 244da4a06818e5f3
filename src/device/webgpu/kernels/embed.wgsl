// embed: rows of a table of any weight form, by id, times a number: out [tokens][cols] f32. A large table has several buffers
// ("parts"); ids outside this part's rows are left to the other parts' dispatches.
// lib: step, batch, weight, codes

// <values>
// include: weightValues
// </values>

// Stands for an id that the device has chosen (contract.ts).
const CHOSEN: u32 = 0xffffffffu;

struct Params {
  first: u32,
  rows: u32,
  cols: u32,
  groups: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [texts]: the id that was chosen last for each.
@group(0) @binding(2) var<storage, read> chosen: array<u32>;
@group(0) @binding(3) var<storage, read> codes: array<u32>;
@group(0) @binding(4) var<storage, read> scales: array<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;

// One workgroup per token and 1024 values. Each invocation expands four values: word `quad % 4` of half a group.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  prepareCodes(local);
  let token = place.y;
  var id = batch[step.idsAt + token];
  if (id == CHOSEN) {
    id = chosen[batch[step.textsAt + token]];
  }
  let row = id - params.first;
  let group = place.x * 32u + local / 8u;
  let quad = local % 8u;
  if (id < params.first || row >= params.rows || group >= params.groups) {
    return;
  }
  var values = vec4<f32>();
  if (CODES == F32) {
    let at = (row * params.groups + group) * 32u + quad * 4u;
    values = vec4<f32>(bitcast<f32>(codes[at]), bitcast<f32>(codes[at + 1u]), bitcast<f32>(codes[at + 2u]), bitcast<f32>(codes[at + 3u]));
  } else if (CODES == F16 || CODES == BF16) {
    let at = (row * params.groups + group) * 16u + quad * 2u;
    values = vec4<f32>(floatsOf(codes[at]), floatsOf(codes[at + 1u]));
  } else {
    let at = scaleAt(row, group, params.groups);
    var next = 0u;
    if (HAS_NEXT) {
      next = scales[nextAt(at, group)];
    }
    let all = scalesOf(scales[at], next, group);
    let scale = select(all.xy, all.zw, quad >= 4u);
    var word = 0u;
    if (CODES == BYTES) {
      word = codes[((row * 2u + quad / 4u) * params.groups + group) * 4u + quad % 4u];
    } else {
      let w = quad % 4u;
      var upper = 0u;
      if (HAS_UPPER) {
        upper = codes[upperAt(row, group, params.groups, w)];
      }
      let nibbles = nibbleWord(codes[wordAt(row, group, params.groups, w)], upper, w);
      word = codesOf((nibbles >> (quad & 4u)) & 0x0f0f0f0fu);
      if (IS_JOINED) {
        let bits = upperWord(upper, w);
        word = select(joinLow(nibbles, bits), joinHigh(nibbles, bits), quad >= 4u);
      }
    }
    values = vec4<f32>(unpack4xI8(word)) * scale.x + scale.y;
  }
  let col = group * 32u + quad * 4u;
  for (var i = 0u; i < min(4u, params.cols - min(col, params.cols)); i++) {
    out[token * params.cols + col + i] = values[i] * params.scale;
  }
}
