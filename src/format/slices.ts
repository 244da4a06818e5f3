/**
 * Long work on the calling thread that others can come between: a generator that stops wherever it may be left for a
 * while. Owns how often and how long it is left. So a prompt of megabytes is rendered and encoded without a thread of its
 * own, with the same code in Node and in a page, and a server answers its other clients meanwhile.
 */
import { throwIfAborted } from "./errors.ts";

/** Each `yield` is a place to pause; steps between two of them take some milliseconds at most. */
export type Slices<Result> = Generator<void, Result, void>;

/** Milliseconds of work between two pauses. */
const SLICE = 8;

/** The whole work without a pause. */
export function atOnce<Result>(work: Slices<Result>): Result {
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
  }
}

/** The work with pauses in which timers, sockets and signals get their turn. AbortedError once the signal has fired. */
export async function inSlices<Result>(
  work: Slices<Result>,
  doing: string,
  signal?: AbortSignal,
): Promise<Result> {
  let started = performance.now();
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
    if (performance.now() - started < SLICE) continue;
    await new Promise((resolve) => setTimeout(resolve));
    throwIfAborted(signal, doing);
    started = performance.now();
  }
}
