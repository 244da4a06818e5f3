/** Folders are made one after the other, so that the system's reason is told and none is asked for without end. */
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { diskError } from "../../src/format/hub/disk.ts";
import { makeFolder } from "../../src/format/make-folder.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "nibble-folder-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it.each([
  ["EROFS", "the file system is read-only. HF_HOME or HF_HUB_CACHE chooses another folder"],
  ["EACCES", "no permission to write there"],
  ["ENOSPC", "the disk is full"],
])("%s of the first that is missing is told", (code, told) => {
  const path = join(folder, "b", "c");
  const asked: string[] = [];
  const make = ((made: string) => {
    asked.push(made);
    throw Object.assign(new Error(code), { code });
  }) as Parameters<typeof makeFolder>[2];
  let cause: unknown;
  try {
    makeFolder(path, undefined, make);
  } catch (error) {
    cause = error;
  }
  expect(diskError(path, cause).message).toContain(`${path}: ${told}`);
  expect(asked).toEqual([join(folder, "b")]);
});

it("what can be made is made, and may be there", () => {
  for (let times = 0; times < 2; times++) makeFolder(join(folder, "x", "y"), 0o700);
  if (process.platform !== "win32") expect(statSync(join(folder, "x")).mode & 0o777).toBe(0o700);
  writeFileSync(join(folder, "file"), "");
  expect(() => makeFolder(join(folder, "file", "z"))).toThrow(/EEXIST/);
});

// Node's mkdir with `recursive` asks for ever here.
it.skipIf(!existsSync("/proc/self"))("a file system without new folders is an error", () => {
  expect(() => makeFolder("/proc/nibble/x")).toThrow(/ENOENT.*'\/proc\/nibble'/);
});
