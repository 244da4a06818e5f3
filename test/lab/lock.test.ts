/** A lab's lock is taken from the dead, and only from them, by one. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { type Holder, LockedError, lookAtLock, takeLabLock } from "../../src/lab/lock.ts";

const root = mkdtempSync(join(tmpdir(), "lab-lock-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const newFolder = () => join(root, String(++folders));

/** A process that is no more. */
const deadPid = spawnSync(process.execPath, ["-e", ""]).pid;

/** A folder whose holder is as this says, else this process. */
async function heldBy(change: Partial<Holder>): Promise<string> {
  const folder = newFolder();
  const lock = await takeLabLock(folder, "database");
  await lock.publish(change);
  return folder;
}

it("refuses while its holder lives, by name, and says how to join", async () => {
  const folder = newFolder();
  const lock = await takeLabLock(folder, "journal");
  await expect(takeLabLock(folder, "database")).rejects.toThrow(
    `the lab in ${folder} is held by process ${process.pid}: it runs alone; stop it, or start it with --workers 2`,
  );
  await lock.publish({ mode: "database", socket: "s" });
  await expect(takeLabLock(folder, "journal")).rejects.toThrow("join it with `nibble lab work`");
  expect(await lookAtLock(folder)).toMatchObject({ pid: process.pid, mode: "database", socket: "s" });
  await lock.release();
  expect(await lookAtLock(folder)).toBeNull();
  await (await takeLabLock(folder, "journal")).release();
});

it("is taken from a process that is gone, or whose number another has now", async () => {
  for (const change of [{ pid: deadPid }, { started: "long ago" }]) {
    const folder = await heldBy(change);
    expect(await lookAtLock(folder)).toBeNull();
    await expect(takeLabLock(folder, "database")).resolves.toMatchObject({ number: 2 });
  }
});

it("is never taken from a process of another machine, however old", async () => {
  const folder = await heldBy({ pid: deadPid, machine: "elsewhere pid:[1]" });
  await expect(takeLabLock(folder, "database")).rejects.toThrow(
    `held by process ${deadPid} of elsewhere: join it with \`nibble lab work\`, or stop it; if that machine is gone for good, delete ${join(folder, "owner")}`,
  );
});

it("goes to one of many that find a dead holder", async () => {
  const folder = await heldBy({ pid: deadPid });
  const tries = await Promise.allSettled(Array.from({ length: 20 }, () => takeLabLock(folder, "database")));
  expect(tries.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  for (const one of tries) if (one.status === "rejected") expect(one.reason).toBeInstanceOf(LockedError);
  expect((await readdir(join(folder, "owner"))).filter((name) => /json$/.test(name))).toEqual(["2.json"]);
});

it("who slept since it looked does not take an old number from whoever came since", async () => {
  const folder = await heldBy({ pid: deadPid });
  // Two holders later; the sleeper then makes the file of the number that it had found free.
  for (const change of [{ released: true }, {}])
    await (await takeLabLock(folder, "database")).publish(change);
  const newest = await readFile(join(folder, "owner", "3.json"));
  await writeFile(join(folder, "owner", "2.json"), newest);
  await expect(takeLabLock(folder, "database")).rejects.toThrow(LockedError);
  expect(await lookAtLock(folder)).toMatchObject({ pid: process.pid });
});
