// The barrier of the worker threads between operations. It uses three words of the control block: arrivals, generation
// and sleepers, each on its own cache line. The last thread to arrive advances the generation; the others watch it,
// spinning for a while (0.5 us per barrier) before they sleep (50 to 100 us; lab/LOG.md, 2026-11-23, the engine).

import { ARRIVED, GENERATION, SLEEPERS, SPINS, STOP } from "./abi/control";

/** A sleeper checks STOP at this interval; a worker that traps cannot wake the others itself. */
const SLEEP_NANOSECONDS: i64 = 5_000_000;

/** Waits for all threads; false if the step was stopped. control: address of the control block. */
export function barrier(control: usize, threads: u32): bool {
  const generation = atomic.load<u32>(control + GENERATION);
  if (atomic.add<u32>(control + ARRIVED, 1) == threads - 1) {
    atomic.store<u32>(control + ARRIVED, 0);
    atomic.add<u32>(control + GENERATION, 1);
    if (atomic.load<u32>(control + SLEEPERS) != 0) atomic.notify(control + GENERATION, <i32>threads);
  } else {
    let spins = load<u32>(control + SPINS);
    while (atomic.load<u32>(control + GENERATION) == generation) {
      if (spins > 0) {
        spins--;
        continue;
      }
      if (atomic.load<u32>(control + STOP) != 0) return false;
      atomic.add<u32>(control + SLEEPERS, 1);
      atomic.wait<i32>(control + GENERATION, <i32>generation, SLEEP_NANOSECONDS);
      atomic.sub<u32>(control + SLEEPERS, 1);
    }
  }
  return atomic.load<u32>(control + STOP) == 0;
}
