// The matrix types of attendDecodeWide, and the workgroup memory that it shares with lib/wideLoads.
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 8, 16>;
alias Result = subgroup_matrix_result<f32, 8, 16>;

// For each subgroup first 32 dims of queries; then in turn keys [token][dim], scores [token][head] (those from values after those from
// keys) and values [dim][token]; at the end sums [head][32 dims]. Rows have an odd number of words, to avoid bank conflicts.
const STRIDE: u32 = 5u;
const SCORE_STRIDE: u32 = 3u;
const SUM_STRIDE: u32 = 9u;
const VALUE_SCORES_AT: u32 = 32u * SCORE_STRIDE;
const STAGE_WORDS: u32 = select(32u * STRIDE, 64u * SCORE_STRIDE, TURNED > 0u);
var<workgroup> stage: array<vec4<u32>, SPLIT * STAGE_WORDS>;
// For each subgroup [token][head].
var<workgroup> weights: array<vec4<u32>, SPLIT * 32u>;
// int4: for each subgroup, the values' scales and zeros for each of four words of codes, in the order of unpacking.
var<workgroup> ranges: array<vec4<u32>, select(1u, SPLIT * 8u, INT4)>;
// CHANNEL: for each four dims of keys.
var<workgroup> channels: array<vec4<u32>, select(1u, KEY_DIM / 4u, CHANNEL)>;
// For each head: the factor for products with its f16 query; before that, the largest numbers that the subgroups found.
var<workgroup> headFactors: array<f32, SPLIT * COLUMNS>;
