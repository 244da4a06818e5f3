/** Whose the device is: the order of turns, keeping, settling, leaving the queue. */
import { describe, expect, it } from "vitest";
import { type Sharer, Turns } from "../../src/engine/turns.ts";
import { AbortedError } from "../../src/format/errors.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A sharer that tells when it was asked to settle, and settles when the test says so. */
function sharer(): Sharer & { asked: number; done: () => void } {
  let done = () => {};
  const settled = new Promise<void>((resolve) => {
    done = resolve;
  });
  return {
    asked: 0,
    done: () => done(),
    settle() {
      this.asked++;
      return settled;
    },
  };
}

/** Sharers that have nothing to settle, by name, and the order in which they got their turns. */
function named(turns: Turns, ...names: string[]) {
  const order: string[] = [];
  const all = names.map((name) => ({
    settle: async () => {},
    take: (signal?: AbortSignal) => turns.take(all[names.indexOf(name)], signal).then(() => order.push(name)),
    end: () => turns.end(all[names.indexOf(name)]),
  }));
  return { all, order };
}

describe("turns", () => {
  it("come in the order of asking, and who has one may take it again", async () => {
    const { all, order } = named(new Turns(), "a", "b", "c");
    const [a, b, c] = all;
    await a.take();
    await a.take();
    const waiting = [b.take(), c.take()];
    await turn();
    expect(order).toEqual(["a", "a"]);
    a.end();
    const again = a.take();
    await waiting[0];
    await turn();
    expect(order).toEqual(["a", "a", "b"]);
    b.end();
    await waiting[1];
    c.end();
    await again;
    expect(order).toEqual(["a", "a", "b", "c", "a"]);
  });

  it("are ended by their holder only", async () => {
    const { all, order } = named(new Turns(), "a", "b");
    const [a, b] = all;
    await a.take();
    const waiting = b.take();
    b.end();
    await turn();
    expect(order).toEqual(["a"]);
    a.end();
    await waiting;
    a.end();
    a.take();
    await turn();
    expect(order).toEqual(["a", "b"]);
  });

  it("are handed over once the last holder has settled, not before, and alone it need not", async () => {
    const turns = new Turns();
    const first = sharer();
    const second = sharer();
    await turns.take(first);
    turns.end(first);
    await turns.take(first);
    turns.end(first);
    expect(first.asked).toBe(0);
    let isSecond = false;
    const waiting = turns.take(second).then(() => {
      isSecond = true;
    });
    await turn();
    expect([first.asked, isSecond]).toEqual([1, false]);
    // While it settles it has no turn, and waits behind.
    let isFirst = false;
    turns.take(first).then(() => {
      isFirst = true;
    });
    first.done();
    await waiting;
    await turn();
    expect(isFirst).toBe(false);
    second.done();
    turns.end(second);
    await turn();
    expect(isFirst).toBe(true);
  });

  it("are not waited for after an abort, and the next who waits is none the worse", async () => {
    const { all, order } = named(new Turns(), "a", "b", "c");
    const [a, b, c] = all;
    await a.take();
    const controller = new AbortController();
    const aborted = b.take(controller.signal);
    const waiting = c.take();
    controller.abort();
    await expect(aborted).rejects.toThrow(AbortedError);
    await expect(b.take(AbortSignal.abort())).rejects.toThrow(AbortedError);
    a.end();
    await waiting;
    c.end();
    await b.take();
    expect(order).toEqual(["a", "c", "b"]);
  });

  it("whose only taker left while the holder settled stay with the holder", async () => {
    const turns = new Turns();
    const first = sharer();
    await turns.take(first);
    turns.end(first);
    const controller = new AbortController();
    const aborted = turns.take(sharer(), controller.signal);
    controller.abort();
    await expect(aborted).rejects.toThrow(AbortedError);
    first.done();
    await turn();
    await turns.take(first);
  });
});
