import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { FormatError, NibbleError } from "../../src/format/errors.ts";
import { fileFolder, fileSource } from "../../src/format/file-source.ts";
import { decodeUtf8, readJson, readText } from "../../src/format/folder.ts";
import type { Source } from "../../src/format/source.ts";

const dir = mkdtempSync(join(tmpdir(), "nibble-source-"));
afterAll(() => rmSync(dir, { recursive: true }));

const CONTENT = Uint8Array.from({ length: 1000 }, (_, i) => (i * 31) % 251);

function written(name: string, content: Uint8Array | string = CONTENT): string {
  const path = join(dir, name);
  writeFileSync(path, content);
  return path;
}

const SOURCES: [string, () => Promise<Source>][] = [
  ["fileSource", () => fileSource(written("plain"))],
  ["bufferSource", async () => bufferSource("plain", CONTENT)],
];

describe.each(SOURCES)("%s", (_, open) => {
  it("reads ranges", async () => {
    const source = await open();
    const into = new Uint8Array(10);
    await source.read(990, into);
    expect(into).toEqual(CONTENT.subarray(990));
    await source.read(1000, new Uint8Array(0));
    expect(source.size).toBe(1000);
    await source.close();
  });

  it("reads into part of shared memory", async () => {
    const source = await open();
    const shared = new Uint8Array(new SharedArrayBuffer(32));
    await source.read(5, shared.subarray(8, 24));
    expect([...shared]).toEqual([...new Uint8Array(8), ...CONTENT.subarray(5, 21), ...new Uint8Array(8)]);
    await source.close();
  });

  it.each([
    [991, 10],
    [1001, 0],
    [-1, 4],
    [0.5, 4],
    [Number.NaN, 4],
    [2 ** 60, 4],
  ])("refuses %d + %d bytes, which are not all inside", async (offset, bytes) => {
    const source = await open();
    await expect(source.read(offset, new Uint8Array(bytes))).rejects.toThrow(FormatError);
    await expect(source.read(offset, new Uint8Array(bytes))).rejects.toThrow(/asked for; allowed: 0 to 1000/);
    await source.close();
  });
});

describe("fileSource", () => {
  it("reports a file that shrank after it was opened", async () => {
    const path = written("shrinks");
    const source = await fileSource(path);
    truncateSync(path, 100);
    await expect(source.read(90, new Uint8Array(20))).rejects.toThrow(/the file ends at byte 100: it shrank/);
    await source.close();
  });

  it("reports a source that was closed", async () => {
    const source = await fileSource(written("closed"));
    await source.close();
    await expect(source.read(0, new Uint8Array(1))).rejects.toThrow(NibbleError);
  });

  it.each([
    ["a missing file", join(dir, "absent"), /no such file/],
    ["a file under a file", join(written("plain"), "x"), /no such file/],
    ["a folder", dir, /not a regular file/],
    ["a device", "/dev/null", /not a regular file/],
    ["a path with a zero byte", "a\0b", /null bytes/],
  ])("refuses %s", async (_, path, message) => {
    await expect(fileSource(path)).rejects.toThrow(NibbleError);
    await expect(fileSource(path)).rejects.toThrow(message);
  });

  it.skipIf(process.platform === "win32")("does not wait for the writer of a named pipe", async () => {
    const path = join(dir, "pipe");
    expect(spawnSync("mkfifo", [path]).status).toBe(0);
    await expect(fileSource(path)).rejects.toThrow(/not a regular file/);
  });
});

describe("fileFolder", () => {
  it("reads text and JSON, follows links as Hugging Face's cache has them, and knows what is absent", async () => {
    mkdirSync(join(dir, "model"));
    writeFileSync(join(dir, "model", "a.json"), '\ufeff{"x": [1]}');
    symlinkSync(join(dir, "model", "a.json"), join(dir, "model", "link.json"));
    const folder = fileFolder(join(dir, "model"));
    expect(await readJson(folder, "link.json")).toEqual({ x: [1] });
    expect(await readText(folder, "absent.txt")).toBeNull();
    expect(await readJson(folder, "absent.json")).toBeUndefined();
    await expect(readText(folder, "../plain")).rejects.toThrow(
      /file name "..\/plain"; allowed: names without a path/,
    );
  });

  it("refuses text that is not UTF-8", () => {
    expect(() => decodeUtf8(Uint8Array.of(0xff), "here")).toThrow("here: bytes that are not UTF-8");
  });
});
