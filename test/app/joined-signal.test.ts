/** One signal out of several, which leaves nothing at those that live on. */
import { expect, it, vi } from "vitest";
import { joinedSignal } from "../../src/app/joined-signal.ts";

/** Listeners that a signal has. */
function counted() {
  const controller = new AbortController();
  let listeners = 0;
  const { signal } = controller;
  const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    listeners++;
    add(...args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    listeners--;
    remove(...args);
  };
  return { controller, count: () => listeners };
}

it("fires with any of them, or by itself, and is let go of by all", () => {
  for (const fire of ["first", "second", "itself"]) {
    const [first, second] = [counted(), counted()];
    const aborted = vi.fn();
    const joined = joinedSignal([first.controller.signal, second.controller.signal], aborted);
    expect([joined.signal.aborted, first.count(), second.count()]).toEqual([false, 1, 1]);
    if (fire === "itself") joined.abort();
    else (fire === "first" ? first : second).controller.abort();
    expect(joined.signal.aborted).toBe(true);
    expect(aborted).toHaveBeenCalledTimes(1);
    joined.release();
    expect([first.count(), second.count()]).toEqual([0, 0]);
  }
});

it("has fired where one of them has, and does not once it was released", () => {
  const gone = new AbortController();
  gone.abort();
  expect(joinedSignal([gone.signal]).signal.aborted).toBe(true);
  const later = new AbortController();
  const joined = joinedSignal([later.signal]);
  joined.release();
  later.abort();
  expect(joined.signal.aborted).toBe(false);
});
