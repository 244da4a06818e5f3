// conv: a causal convolution. Each output is the sum of a channel's last KERNEL inputs times its taps. Inputs before a run come from
// the slot that the run reads, and its last KERNEL - 1 inputs go to the slot that it writes. One thread per row and channel.
// lib: step, batch, activation
// <values>
const KERNEL: u32 = 4u;
const HAS_SILU: bool = true;
// </values>

struct Params {
  channels: u32,
  // In floats; a stride is the distance from one token's row to the next.
  xOffset: u32,
  xStride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<f32>;
// [channels][KERNEL]
@group(0) @binding(3) var<storage, read> weight: array<f32>;
// [slots][KERNEL - 1][channels], oldest first
@group(0) @binding(4) var<storage, read_write> states: array<f32>;
@group(0) @binding(5) var<storage, read> batch: array<u32>;
// [tokens][channels]
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

const PAST: u32 = KERNEL - 1u;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let channel = group.x * 64u + lane;
  if (channel >= params.channels) {
    return;
  }
  let row = group.y;
  var run = runAt(0u);
  for (var i = 1u; i < step.runs && row >= run.first + run.tokens; i++) {
    run = runAt(i);
  }
  // The row's index among the run's inputs.
  let index = row - run.first;
  var sum = 0.0;
  for (var j = 0u; j < KERNEL; j++) {
    sum += weight[channel * KERNEL + j] * inputAt(run, index + j, channel);
  }
  if (HAS_SILU) {
    sum = gated(SILU, sum, 1.0, 0.0);
  }
  out[row * params.channels + channel] = sum;

  if (index + PAST >= run.tokens) {
    states[stateAt(run.writeSlot, index + PAST - run.tokens, channel)] = inputAt(run, index + PAST, channel);
  }
  // A run shorter than PAST keeps some of the inputs before it.
  if (index == 0u) {
    for (var p = 0u; p + run.tokens < PAST; p++) {
      states[stateAt(run.writeSlot, p, channel)] = inputAt(run, p + run.tokens, channel);
    }
  }
}

// Inputs 0 to PAST - 1 are those before the run.
fn inputAt(run: Run, index: u32, channel: u32) -> f32 {
  if (index >= PAST) {
    return x[params.xOffset + (run.first + index - PAST) * params.xStride + channel];
  }
  if (run.readSlot == NO_SLOT) {
    return 0.0;
  }
  return states[stateAt(run.readSlot, index, channel)];
}

fn stateAt(slot: u32, index: u32, channel: u32) -> u32 {
  return (slot * PAST + index) * params.channels + channel;
}
