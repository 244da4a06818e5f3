/** `nibble lab dead` and `retry`: what failed for good is shown with its last error, and tried again when somebody asks. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { rebuild, retry, showDead } from "../../src/app/lab-mend.ts";
import { note, propose } from "../../src/app/lab-propose.ts";
import { writeReport } from "../../src/app/lab-report.ts";
import { status } from "../../src/app/lab-verbs.ts";
import { workInLab } from "../../src/app/lab-work.ts";
import { openLab } from "../../src/lab/open-lab.ts";
import { zeroEntries, zeroExperiment, zeroFailure, zeroResult } from "../lab/zero.ts";

const folder = mkdtempSync(join(tmpdir(), "lab-mend-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const signal = new AbortController().signal;
const options = { folder, method: [] };
const [dead, done] = [zeroExperiment(0).id, zeroExperiment(1).id];

async function printed(call: Promise<void>): Promise<string> {
  const lines: string[] = [];
  const write = vi.spyOn(process.stdout, "write").mockImplementation((text) => lines.push(String(text)) > 0);
  try {
    await call;
  } finally {
    write.mockRestore();
  }
  return lines.join("");
}

beforeAll(async () => {
  const book = await openLab(folder);
  await book.add(zeroEntries(3));
  for (let tries = 1; tries <= 3; tries++) {
    const claim = (await book.claim("w", []))!;
    expect(claim).toMatchObject({ id: dead, attempt: tries });
    await book.record(claim, { ...zeroFailure(claim, `error ${tries}`), final: tries === 3 });
  }
  await book.add([zeroResult(done)]);
  await book.close();
});

it("of a folder without a lab every verb says so, and makes nothing there", async () => {
  const none = { folder: join(folder, "none"), method: [] };
  const more = { workers: 1, can: [] };
  for (const verb of [
    () => showDead(none, signal),
    () => writeReport(none, signal),
    () => status(none, signal),
    () => workInLab({ ...none, ...more }, signal),
    () => retry([], { ...none, all: true }, signal),
    () => note("a note", { ...none, kind: "insight", evidence: [], by: "human" }, signal),
    () => propose("rq4", { ...none, on: "needle", device: "cpu", reason: "", by: "human" }, signal),
    () => retry([], { ...none, db: none.folder, all: true }, signal),
  ])
    await expect(verb()).rejects.toThrow(`the lab in ${none.folder} is empty`);
  expect(existsSync(none.folder)).toBe(false);
});

it("shows the dead, gives one another three tries, and refuses what has not failed", async () => {
  expect(await printed(showDead(options, signal))).toBe(
    `${dead.slice(0, 8)}  int4 on model-1: error after 3 tries: error 3\n`,
  );
  const [row] = (await printed(showDead({ ...options, json: true }, signal))).split("\n");
  expect(JSON.parse(row)).toMatchObject({ id: dead, outcome: "error", tries: 3 });

  await expect(retry([], options, signal)).rejects.toThrow("experiments to retry is none");
  await expect(retry([done.slice(0, 12)], options, signal)).rejects.toThrow(
    `experiment ${done.slice(0, 12)} is done; allowed: one that has failed or is dead`,
  );
  await expect(retry(["zz"], options, signal)).rejects.toThrow("0 begin so");
  expect(await printed(retry([dead.slice(0, 8)], options, signal))).toBe(
    "1 experiment will be tried again.\n",
  );
  expect(await printed(showDead(options, signal))).toBe("No experiment is dead.\n");
  const book = await openLab(folder);
  expect(await book.claim("w", [])).toMatchObject({ id: dead, attempt: 4 });
  await expect(rebuild(options, signal)).rejects.toThrow("it runs alone");
  await book.close();
  expect(await printed(rebuild(options, signal))).toMatch(/^\d+ entries\.\n$/);
  expect(await printed(rebuild(options, signal))).toMatch(
    /^\d+ entries; the database before is in .*db\.old\.\n$/,
  );
}, 60_000);
