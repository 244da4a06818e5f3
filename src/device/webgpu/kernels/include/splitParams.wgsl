// Of products whose columns are split over workgroups: `out` has a part for each split.
struct Params {
  rows: u32,
  groups: u32,
  // Tokens that a split has room for in `out`.
  tokens: u32,
  outCols: u32,
  // Of `out`, where row 0 goes.
  firstColumn: u32,
}
