// @ts-check
/**
 * The binary interface between the host and the kernels: every offset, field and number that both sides must agree on.
 * The host reads these tables, and the build makes AssemblyScript of them (scripts/wasm-abi.js writes assembly/abi/). They
 * are not TypeScript, so that the build can read them without a compiler.
 *
 * Types of fields, each of one word: `address`: in the record's memory; `int`, `unsigned`, `float`.
 */

/**
 * Byte offsets in the control block, the first words of each of the device's memories, which host and threads share. The
 * words that threads wait on have a cache line each.
 *
 * With several memories, `step`, `from` and `to` are those of the first: one word begins a step. The words of a barrier
 * (arrived, generation, sleepers) are each memory's own, since a kernel instance reaches only one: all threads pass the
 * barriers of all memories in the same order, so none can be a barrier ahead in any. `stop` is set in all.
 */
export const CONTROL = /** @type {const} */ ({
  step: 0,
  arrived: 64,
  generation: 128,
  sleepers: 192,
  /** Set by the host or a failing worker; all threads leave at the next barrier. */
  stop: 256,
  /** How often to look at a barrier before sleeping; 0 if there are more threads than cores. */
  spins: 260,
  /** For the step: rows, rows that reach the output, and runs. */
  tokens: 264,
  outputs: 268,
  runs: 272,
  /** Set once: addresses of the runs and of the outputs' rows, and pages of a text in a table. */
  runsAt: 276,
  outputRowsAt: 280,
  blocks: 284,
  /** The records [from, to), numbered over all memories, that the threads run when `step` changes. */
  from: 288,
  to: 292,
});
export const CONTROL_BYTES = 512;

/** Fields of a run of the step. */
export const RUN_FIELDS = /** @type {const} */ ({
  text: "int",
  position: "int",
  /** Its first row in the step, and their number. */
  first: "int",
  tokens: "int",
  /** Slots of states to read (NO_SLOT: none) and to write. */
  stateFrom: "unsigned",
  stateTo: "unsigned",
  /** Number of the text's packed blocks, and where the run's own begin and end among the step's blocks to pack. */
  packed: "int",
  packsFrom: "int",
  packsTo: "int",
});
export const RUN_WORDS = Object.keys(RUN_FIELDS).length;
export const NO_SLOT = 0xffffffff;

/** Types of weights; the kernels' number of a type is its index. */
export const TYPES = /** @type {const} */ ([
  ...["f32", "f16", "bf16"],
  ...["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs"],
  ...["mxfp4", "nvfp4"],
  ...["iq3_s", "iq3_xxs", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_s", "iq1_m"],
  ...["tq1_0", "tq2_0", "q1_0", "q2_0"],
  ...["mlx4_g32", "mlx4_g64", "mlx4_g128", "mlx8_g32", "mlx8_g64", "mlx8_g128"],
]);

/**
 * Formats of a cache; a format's number is its index. That of `packed` has its parts, too: keys << KV_KEYS_SHIFT and
 * values << KV_VALUES_SHIFT, each of them the bits of a code, and KV_ROTATED.
 */
export const CACHE_FORMATS = /** @type {const} */ (["f16", "int4", "rq4", "packed"]);
export const KV_KEYS_SHIFT = 4;
export const KV_VALUES_SHIFT = 12;
export const KV_ROTATED = 16;

/** Activations of a gate; an activation's number is its index. */
export const ACTIVATIONS = /** @type {const} */ (["silu", "geluTanh", "sigmoid", "swigluOai"]);

/** Words of every record in the list of operations. */
export const RECORD_WORDS = 32;

/** The common part of all records. */
export const RECORD_HEAD = /** @type {const} */ ({
  kind: "unsigned",
  /** 1: all threads meet after this operation. */
  meet: "unsigned",
  /** Units that threads have taken; the host sets it to 0 before each step. */
  taken: "int",
  /** 0: rows are the step's tokens; 1: its outputs. */
  rows: "unsigned",
});

const work = /** @type {const} */ ({ work: "address", workBytes: "address" });

/** The operations' arguments, by kind of record; the number of a kind is its index, from 1. */
export const RECORD_FIELDS = /** @type {const} */ ({
  embed: {
    ...{ out: "address", table: "address", weightType: "int", tableRows: "int", cols: "int", scale: "float" },
    ids: "address",
  },
  rmsNorm: { out: "address", x: "address", weight: "address", groups: "int", size: "int", epsilon: "float" },
  /** vectors: number of vectors in a row. */
  quantize: { quantized: "address", x: "address", cols: "int", vectors: "int" },
  matmul: {
    ...{ out: "address", x: "address", quantized: "address", weight: "address", weightType: "int" },
    ...{ weightRows: "int", cols: "int", bias: "address", ...work },
  },
  rope: { out: "address", x: "address", angles: "address", heads: "int", headDim: "int", pairs: "int" },
  /** cache: the unpacked pages. packed: the packed ones, if the format packs. packs: the step's blocks to pack. */
  appendKv: {
    ...{ cache: "address", keys: "address", values: "address", kvHeads: "int", headDim: "int" },
    ...{ turned: "int", tables: "address", format: "int", ...work },
    ...{ packed: "address", packedTables: "address", packs: "address", window: "int" },
  },
  /** cache, packed: as for appendKv. kept: blocks at a text's beginning that are never packed. */
  attend: {
    ...{ cache: "address", queries: "address", out: "address", partials: "address", ...work },
    ...{ heads: "int", kvHeads: "int", headDim: "int", turned: "int", tables: "address", window: "int" },
    ...{ scale: "float", softcap: "float", format: "int", sinks: "address" },
    ...{ packed: "address", packedTables: "address", kept: "int" },
  },
  attendMerge: {
    ...{ partials: "address", out: "address", heads: "int", kvHeads: "int", headDim: "int", window: "int" },
    ...{ format: "int", sinks: "address" },
  },
  /** width: columns of `up` for each of `gate`. */
  gate: {
    ...{ out: "address", gate: "address", up: "address", cols: "int", width: "int", activation: "int" },
    limit: "float",
  },
  add: { out: "address", a: "address", b: "address", cols: "int" },
  softcap: { out: "address", x: "address", cols: "int", cap: "float" },
  takeOutputs: { out: "address", x: "address", cols: "int" },
  /** x: the first column. stride: columns from one vector to the next. */
  slice: { out: "address", x: "address", vectors: "int", size: "int", stride: "int" },
  scale: { out: "address", x: "address", cols: "int", factor: "float" },
  /** weight: 0: only the rotary dims, the first and the second dims of `turning` pairs. */
  takeTurned: {
    ...{ out: "address", x: "address", weight: "address", vectors: "int", headDim: "int" },
    ...{ pairs: "int", turning: "int" },
  },
  route: {
    ...{ out: "address", logits: "address", experts: "int", k: "int", normalise: "int", weights: "address" },
  },
  groupPicks: { order: "address", starts: "address", picks: "address", experts: "int", k: "int" },
  /** share: rows of the product that read one row of x. */
  expertMatmul: {
    ...{ out: "address", x: "address", quantized: "address", weight: "address", weightType: "int" },
    ...{ expertRows: "int", cols: "int", bias: "address", experts: "int", share: "int" },
    ...{ order: "address", starts: "address", ...work },
  },
  combine: { out: "address", x: "address", picks: "address", cols: "int", k: "int" },
  conv: {
    ...{ out: "address", x: "address", weight: "address", states: "address", channels: "int", kernel: "int" },
    ...{ silu: "int", ...work },
  },
  gatedDelta: {
    ...{ out: "address", x: "address", a: "address", b: "address", rates: "address", bias: "address" },
    ...{ states: "address", keyHeads: "int", valueHeads: "int", keyDim: "int", valueDim: "int" },
    ...{ tiled: "int", epsilon: "float", least: "int", ...work },
  },
});
