// How a cache stores keys and values (kv.ts): int4, rq4, or keys by channel, with a scale and a zero for each dim of a page. Lengths
// and offsets are in words of 16 bytes, within one head's page.
const INT4: bool = true;
const RQ4: bool = false;
const CHANNEL: bool = false;
const KEY_BITS: u32 = 4u;
const VALUE_BITS: u32 = 4u;
const KEY_WORDS: u32 = 80u;
const KEY_SCALES_AT: u32 = 64u;
const VALUE_WORDS: u32 = 80u;
const VALUE_SCALES_AT: u32 = 64u;
