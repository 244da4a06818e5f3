/**
 * The control block, the first words of each of the device's memories, which host and threads share. Owns where its words
 * lie; the assembly files repeat them. Apart from the threads themselves, so that plans can be made where there are none.
 *
 * With several memories `step`, `from` and `to` are those of the first: a step begins by one word. The words of a meeting
 * (arrived, generation, sleepers) are each memory's own, since kernels reach no other: all threads come to the meetings of
 * all memories in the same order, so that none can be a meeting ahead in any. `stop` is set in all.
 */

/** Byte offsets of the control block's words, after assembly/barrier.ts; the step's own words follow at STEP_WORDS. */
export const CONTROL = {
  step: 0,
  arrived: 64,
  generation: 128,
  sleepers: 192,
  stop: 256,
  spins: 260,
  /** Of the step: rows, outputs, runs. */
  tokens: 264,
  /** Set once: where runs and the outputs' rows lie, and pages of a text in a table. */
  runsAt: 276,
  /** Of all memories' records, by their numbers: those [from, to) that the threads run when `step` changes. */
  from: 288,
  to: 292,
};

/**
 * u32 of a run: text, position, first row, tokens, slots of states to read (NO_SLOT: none) and to write, blocks that are
 * packed, and where among the step's blocks to pack its own begin and end.
 */
export const RUN_WORDS = 9;
export const NO_SLOT = 0xffffffff;
export const CONTROL_BYTES = 512;
