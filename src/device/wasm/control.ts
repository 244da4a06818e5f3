/**
 * The control block, the first words of the device's memory that host and threads share. Owns where its words lie; the
 * assembly files repeat them. Apart from the threads themselves, so that plans can be made where there are none.
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
  /** Of the list: the operations [from, to) that the threads run when `step` changes. */
  from: 288,
  to: 292,
};

/** u32 of a run: text, position, first row, tokens, slots of states to read (NO_SLOT: none) and to write. */
export const RUN_WORDS = 6;
export const NO_SLOT = 0xffffffff;
export const CONTROL_BYTES = 512;
