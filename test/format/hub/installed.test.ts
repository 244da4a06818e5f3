/** What lies in the cache folder, and taking it away: made by hand in Python's layout, with links. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { installedModels, removeModel } from "../../../src/format/hub/installed.ts";

const COMMIT = "c0ffee0000000000000000000000000000c0ffee";
let cache: string;
beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), "nibble-installed-"));
});
afterEach(() => rmSync(cache, { recursive: true, force: true }));

/** Files by path, with the name of their blob as content. */
async function repository(folder: string, files: Record<string, string>): Promise<void> {
  const repo = join(cache, folder);
  for (const [path, blob] of Object.entries({ ...files })) {
    const at = join(repo, "snapshots", COMMIT, path);
    await mkdir(dirname(at), { recursive: true });
    await mkdir(join(repo, "blobs"), { recursive: true });
    await writeFile(join(repo, "blobs", blob), blob);
    await symlink(
      join(
        "..",
        "..",
        ...path
          .split("/")
          .slice(1)
          .map(() => ".."),
        "blobs",
        blob,
      ),
      at,
    );
  }
  await mkdir(join(repo, "refs"), { recursive: true });
  await writeFile(join(repo, "refs", "main"), COMMIT);
}

const list = async () => (await installedModels({ cache })).map(({ name, bytes }) => [name, bytes]);

describe("models on the disk", () => {
  it("are GGUFs, split ones once, and folders; nothing else", async () => {
    await repository("models--a--Tiny-GGUF", {
      "tiny-Q8_0.gguf": "eight",
      "sub/tiny-Q4_K_M-00001-of-00002.gguf": "one",
      "sub/tiny-Q4_K_M-00002-of-00002.gguf": "second",
      "mmproj-F16.gguf": "eyes",
      "README.md": "text",
    });
    await repository("models--b--folder", { "config.json": "conf", "model.safetensors": "weights" });
    await repository("models--c--part", { "x-Q4_0-00001-of-00002.gguf": "half" });
    await repository("datasets--d--data", { "x.gguf": "no" });
    await writeFile(join(cache, "models--"), "a file");
    expect(await list()).toEqual([
      ["hf:a/Tiny-GGUF:sub/tiny-Q4_K_M-00001-of-00002.gguf", 9],
      ["hf:a/Tiny-GGUF:tiny-Q8_0.gguf", 5],
      ["hf:b/folder", 11],
    ]);
    expect(await installedModels({ cache: join(cache, "none") })).toEqual([]);
  });

  it("go by quantization, with what no other file shares, or whole", async () => {
    await repository("models--a--Tiny-GGUF", {
      "tiny-Q8_0.gguf": "shared",
      "tiny-Q4_0.gguf": "own",
      "copy-Q6_K.gguf": "shared",
    });
    const blobs = () => readdir(join(cache, "models--a--Tiny-GGUF", "blobs"));
    expect(await removeModel("hf:a/Tiny-GGUF:q8_0", { cache })).toMatchObject({ bytes: 6 });
    expect((await blobs()).sort()).toEqual(["own", "shared"]);
    await removeModel("hf:a/Tiny-GGUF:tiny-Q4_0.gguf", { cache });
    expect(await blobs()).toEqual(["shared"]);
    await removeModel("hf:a/Tiny-GGUF", { cache });
    expect(existsSync(join(cache, "models--a--Tiny-GGUF"))).toBe(false);
  });

  it.each([
    ["hf:a/none", "a model that is on this disk"],
    ["hf:../x", "hf:owner/name"],
    ["/etc", "hf:owner/name"],
    ["hf:a/Tiny-GGUF:q2_k", "Q8_0"],
  ])("%s is refused, and nothing is taken", async (name, message) => {
    await repository("models--a--Tiny-GGUF", { "tiny-Q8_0.gguf": "eight" });
    await expect(removeModel(name, { cache })).rejects.toThrow(message);
    expect(await list()).toHaveLength(1);
  });

  it("a link out of the repository is not followed", async () => {
    await repository("models--a--Tiny-GGUF", { "tiny-Q8_0.gguf": "eight" });
    const outside = join(cache, "outside");
    await writeFile(outside, "precious");
    await symlink(outside, join(cache, "models--a--Tiny-GGUF", "snapshots", COMMIT, "bad-Q4_0.gguf"));
    await removeModel("hf:a/Tiny-GGUF:Q4_0", { cache });
    expect(existsSync(outside)).toBe(true);
  });
});
