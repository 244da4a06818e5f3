// Params of products whose columns are split over workgroups: `out` has a part for each split.
struct Params {
  rows: u32,
  groups: u32,
  // Tokens for which a split has room in `out`.
  tokens: u32,
  outCols: u32,
  // The column of `out` for row 0.
  firstColumn: u32,
}
