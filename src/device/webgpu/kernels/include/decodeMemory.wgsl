// The matrix types of attendDecodeMatrix, and the workgroup memory that it shares with its library files.
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 8, 16>;
alias Result = subgroup_matrix_result<f32, 8, 16>;

// First 32 dims of queries; then in turn keys [token][dim], scores [token][head] and values [dim][token]; at the end sums [head][32
// dims]. Rows have an odd number of 16-byte words, to avoid bank conflicts.
const STRIDE: u32 = 5u;
const SCORE_STRIDE: u32 = 3u;
const SUM_STRIDE: u32 = 9u;
var<workgroup> stage: array<vec4<u32>, 32u * STRIDE>;
var<workgroup> weights: array<vec4<u32>, 32>;
// int4: the values' scales and zeros for each of four words of codes, in the order of unpacking.
var<workgroup> ranges: array<vec4<u32>, select(1u, 8u, INT4)>;
// For each head: the factor for products with its f16 query.
var<workgroup> headFactors: array<f32, COLUMNS>;
