/**
 * Long work on the calling thread that other work can interrupt: a generator that yields where it may pause. A prompt
 * of megabytes is rendered and encoded this way without a thread of its own, with the same code in Node and in a page,
 * while a server answers its other clients. All such work of a thread shares one time budget: however many generators
 * there are, they take turns, and timers, sockets and signals run between two slices.
 */
import { throwIfAborted } from "./errors.ts";

/** Each `yield` is a place to pause; steps between two of them take a few milliseconds at most. */
export type Slices<Result> = Generator<void, Result, void>;

/** Milliseconds of such work between two turns of the event loop. */
const SLICE = 8;

/** Generators that wait for their turn, first come first served. */
const waiting: (() => void)[] = [];
/** Milliseconds used since the event loop last had its turn. */
let spent = 0;
let isArmed = false;

/** Runs all of the work without a pause. */
export function atOnce<Result>(work: Slices<Result>): Result {
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
  }
}

/**
 * Runs the work with pauses in which timers, sockets and signals are served. Throws AbortedError once the signal has
 * fired.
 */
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
    // The rest of the slice goes to the next one.
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

/** One timer for all: between two of its calls the event loop runs everything else. */
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
