// Keys by channel, with 4-bit codes, for attendPromptApart: expands them to f16 in its `keyTile`. A thread has 16 dims of two tokens,
// or of one for heads of 64, so that the channels' scales and zeros stay in its registers. Appended with apartTile and channelFours.

// Scales and zeros of the thread's dims in the low codes of its words, and of those in the high codes.
var<private> lowChannels: vec4<u32>;
var<private> highChannels: vec4<u32>;
// As channelFour returns them, of four dims each.
var<private> oneFour: vec4<u32>;
var<private> otherFour: vec4<u32>;

// Which of a group's pairs of words a thread has.
fn channelShare(local: u32) -> u32 {
  return select(shareOf(local), local % 32u / 16u, SHARES == 1u);
}

// block: the word at which the page begins.
fn loadChannels(block: u32, local: u32) {
  let share = channelShare(local);
  let group = groupOf(local);
  if (SHARES == 1u) {
    let one = block + group * 32u + tokenOfScore(local % 16u);
    let other = block + group * 32u + tokenOfScore(local % 16u + 16u);
    keyCodes = vec4<u32>(keys[one][2u * share], keys[one][2u * share + 1u], keys[other][2u * share], keys[other][2u * share + 1u]);
  } else {
    let one = block + group * 32u + tokenOfScore(local % 32u);
    keyCodes = vec4<u32>(keys[one][2u * share], keys[one][2u * share + 1u], 0u, 0u);
  }
  lowChannels = keys[block + KEY_SCALES_AT + group * 4u + share];
  highChannels = keys[block + KEY_SCALES_AT + group * 4u + share + 2u];
}

fn useChannels(eight: vec4<u32>) {
  oneFour = channelFour(eight.x, eight.y);
  otherFour = channelFour(eight.z, eight.w);
}

fn byChannel(a: u32, b: u32, shift: u32) -> vec4<u32> {
  return vec4<u32>(channelHalf(a >> shift, oneFour), channelHalf(b >> shift, otherFour));
}

// As expandKey{E} of apartTile; call them in order.
// each E 0..3
fn expandChannels{E}(local: u32) {
  let row = local % 16u * KEY_STRIDE;
  let place = row + groupOf(local) * 4u + channelShare(local);
  if (SHARES == 1u) {
    // only E 0..0
    useChannels(lowChannels);
    keyTile[0][place] = byChannel(keyCodes.x, keyCodes.y, 0u);
    // end
    // only E 1..1
    keyTile[1][place] = byChannel(keyCodes.z, keyCodes.w, 0u);
    // end
    // only E 2..2
    useChannels(highChannels);
    keyTile[0][place + 2u] = byChannel(keyCodes.x, keyCodes.y, 4u);
    // end
    // only E 3..3
    keyTile[1][place + 2u] = byChannel(keyCodes.z, keyCodes.w, 4u);
    // end
  } else {
    // only E 0..0
    useChannels(lowChannels);
    keyTile[local % 32u / 16u][place] = byChannel(keyCodes.x, keyCodes.y, 0u);
    // end
    // only E 1..1
    useChannels(highChannels);
    keyTile[local % 32u / 16u][place + 2u] = byChannel(keyCodes.x, keyCodes.y, 4u);
    // end
  }
}
// end
