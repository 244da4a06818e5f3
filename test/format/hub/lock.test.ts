/** Locks of holders that live, are gone, sleep, or were never there. */
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AbortedError, NibbleError } from "../../../src/format/errors.ts";
import { takeLock } from "../../../src/format/hub/lock.ts";

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "nibble-lock-"));
  path = join(folder, "deep/file.lock");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A lock that another machine's process holds. */
async function foreign(): Promise<void> {
  await (await takeLock(path)).release();
  writeFileSync(path, '{"machine": "another", "pid": 7, "id": "x"}');
}

describe("a lock", () => {
  it("is one holder's at a time, in the order of their luck, and leaves nothing", async () => {
    let inside = 0;
    const work = async () => {
      const lock = await takeLock(path);
      expect(++inside).toBe(1);
      await lock.check();
      await sleep(5);
      inside--;
      await lock.release();
    };
    await Promise.all(Array.from({ length: 5 }, work));
    expect(readdirSync(join(folder, "deep"))).toEqual([]);
  });

  it("tells who holds it, and can be waited for no longer", async () => {
    const lock = await takeLock(path);
    const controller = new AbortController();
    const seen: string[] = [];
    const waiting = takeLock(path, {
      signal: controller.signal,
      onWait: (holder) => {
        seen.push(holder);
        controller.abort();
      },
    });
    await expect(waiting).rejects.toThrow(AbortedError);
    expect(seen).toEqual([`process ${process.pid}`]);
    await lock.check();
    await lock.confirm();
    await lock.release();
    expect(existsSync(path)).toBe(false);
  });

  it.each([
    ["a process that is gone", (held: string) => held.replace(/"pid":\d+/, '"pid":4194303')],
    ["a process of long ago, half written", () => '{"mach'],
    ["nobody: empty", () => ""],
  ])("is taken from %s", async (_, content) => {
    const first = await takeLock(path);
    const held = readFileSync(path, "utf8");
    writeFileSync(path, content(held));
    const second = await takeLock(path, { silentMs: 100 });
    await expect(first.confirm()).rejects.toThrow(/taken over/);
    await first.release();
    expect(existsSync(path)).toBe(true);
    await second.release();
    expect(readdirSync(join(folder, "deep"))).toEqual([]);
  });

  it("is not taken from another machine's process that gives signs", async () => {
    await foreign();
    let left = 20;
    const beating = setInterval(() => {
      if (left-- > 0) utimesSync(path, new Date(), new Date(Date.now() + left));
    }, 100);
    const started = performance.now();
    const lock = await takeLock(path, { silentMs: 1500 });
    clearInterval(beating);
    // Its last sign came after two seconds.
    expect(performance.now() - started).toBeGreaterThan(2500);
    await lock.release();
  });

  it("of a stopped holder that was taken is lost to it, and one only", async () => {
    await foreign();
    const locks = await Promise.allSettled(
      [1, 2, 3].map(async () => {
        const lock = await takeLock(path, { silentMs: 300 });
        await sleep(50);
        await lock.confirm();
        await lock.release();
      }),
    );
    expect(locks.filter(({ status }) => status === "fulfilled").length).toBeGreaterThan(0);
    for (const lock of locks) if (lock.status === "rejected") expect(lock.reason).toBeInstanceOf(NibbleError);
    expect(readdirSync(join(folder, "deep"))).toEqual([]);
  });

  it("where nothing can be written is an error", async () => {
    writeFileSync(join(folder, "deep"), "");
    await expect(takeLock(path)).rejects.toThrow(NibbleError);
  });
});
