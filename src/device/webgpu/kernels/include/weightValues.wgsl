// How weights are packed (lib/weight.wgsl), and a table of codes, four to a word (lib/codes.table.wgsl).
const CODES: u32 = 0u;
const SCALES: u32 = 0u;
const BIAS: f32 = 8.0;
const CODES_0: u32 = 0u;
const CODES_1: u32 = 0u;
const CODES_2: u32 = 0u;
const CODES_3: u32 = 0u;
