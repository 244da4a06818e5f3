/**
 * The control block: the first words of each of the device's memories, which host and threads share. The assembly files
 * repeat these offsets. Separate from the threads, so that plans can be made without them.
 *
 * With several memories, `step`, `from` and `to` are those of the first: one word begins a step. The words of a barrier
 * (arrived, generation, sleepers) are each memory's own, since a kernel instance reaches only one: all threads pass the
 * barriers of all memories in the same order, so none can be a barrier ahead in any. `stop` is set in all.
 */

/** Byte offsets of the control block's words, as in assembly/barrier.ts; the step's own words start at STEP_WORDS. */
export const CONTROL = {
  step: 0,
  arrived: 64,
  generation: 128,
  sleepers: 192,
  stop: 256,
  spins: 260,
  /** For the step: rows, outputs, runs. */
  tokens: 264,
  /** Set once: addresses of the runs and of the outputs' rows, and pages of a text in a table. */
  runsAt: 276,
  /** The records [from, to), numbered over all memories, that the threads run when `step` changes. */
  from: 288,
  to: 292,
};

/**
 * u32 words of a run: text, position, first row, tokens, slots of states to read (NO_SLOT: none) and to write, number
 * of packed blocks, and where its own begin and end among the step's blocks to pack.
 */
export const RUN_WORDS = 9;
export const NO_SLOT = 0xffffffff;
export const CONTROL_BYTES = 512;
