/** Writing to the cache folder where that is not allowed: the reason is told, not what Node makes of it. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { diskError, makeFolder } from "../../../src/format/hub/disk.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "nibble-disk-"));
  mkdirSync(join(folder, "a"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const fails = (code: string) => Object.assign(new Error(code), { code });

it.each([
  ["EROFS", "the file system is read-only. HF_HOME or HF_HUB_CACHE chooses another folder"],
  ["EACCES", "no permission to write there"],
  ["ENOSPC", "the disk is full"],
])("%s is told where Node says ENOENT of a folder and those above it", async (code, told) => {
  const path = join(folder, "a", "b", "c");
  const asked: string[] = [];
  // As Node 20 does: https://github.com/nodejs/node/issues/47098
  const make = (async (made: string, options?: object) => {
    asked.push(made);
    throw fails(options ? "ENOENT" : code);
  }) as typeof mkdir;
  const cause = await makeFolder(path, make).catch((error) => error);
  expect(diskError(path, cause).message).toContain(`${path}: ${told}`);
  expect(asked).toEqual([path, join(folder, "a", "b")]);
});

it("what can be made is made", async () => {
  await makeFolder(join(folder, "x", "y"));
  await makeFolder(join(folder, "x", "y"));
  await expect(mkdir(join(folder, "x", "y"))).rejects.toThrow("EEXIST");
});
