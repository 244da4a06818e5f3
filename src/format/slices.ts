/**
 * Long work on the calling thread that others can come between: a generator that stops wherever it may be left for a
 * while. Owns how often and how long it is left. So a prompt of megabytes is rendered and encoded without a thread of its
 * own, with the same code in Node and in a page, and a server answers its other clients meanwhile.
 * One idea: all works of a thread share one budget. However many there are, they take turns, and timers, sockets and signals
 * have theirs between two of them.
 */
import { throwIfAborted } from "./errors.ts";

/** Each `yield` is a place to pause; steps between two of them take some milliseconds at most. */
export type Slices<Result> = Generator<void, Result, void>;

/** Milliseconds of work between two turns of everything else. */
const SLICE = 8;

/** Works that wait for their turn, in the order of coming. */
const waiting: (() => void)[] = [];
/** Milliseconds that works have taken since everything else had its turn. */
let spent = 0;
let isArmed = false;

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
  try {
    if (waiting.length > 0 || spent >= SLICE) await myTurn();
    for (;;) {
      throwIfAborted(signal, doing);
      do {
        const step = counted(work);
        if (step.done) return step.value;
      } while (spent < SLICE);
      await myTurn();
    }
  } finally {
    if (spent > 0) arm();
    // What is left of the turn is the next one's.
    if (spent < SLICE) waiting.shift()?.();
  }
}

function counted<Result>(work: Slices<Result>): IteratorResult<void, Result> {
  const started = performance.now();
  try {
    return work.next();
  } finally {
    spent += performance.now() - started;
  }
}

function myTurn(): Promise<void> {
  arm();
  return new Promise((resolve) => waiting.push(resolve));
}

/** One timer for all: between two of them the event loop looks after everything else. */
function arm(): void {
  if (isArmed) return;
  isArmed = true;
  setTimeout(() => {
    isArmed = false;
    spent = 0;
    waiting.shift()?.();
    if (waiting.length > 0) arm();
  });
}
