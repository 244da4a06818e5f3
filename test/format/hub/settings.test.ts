/** The environment of Python's huggingface_hub: names, order, defaults. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ArgumentError } from "../../../src/format/errors.ts";
import { hubSettings } from "../../../src/format/hub/settings.ts";

let home: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "nibble-home-"));
  writeFileSync(join(home, "token"), "hf_saved\n");
  writeFileSync(join(home, "other"), " hf_other ");
  writeFileSync(join(home, "empty"), "\n");
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

const none = join(tmpdir(), "no-such-folder");

describe("settings", () => {
  it("have Python's defaults", async () => {
    const { cache, ...rest } = await hubSettings({}, { HF_TOKEN_PATH: none });
    expect(rest).toEqual({ endpoint: "https://huggingface.co", token: null, offline: false, symlinks: true });
    expect(cache).toBe(join(homedir(), ".cache/huggingface/hub"));
  });

  it.each<[object, string]>([
    [{ XDG_CACHE_HOME: "/x" }, "/x/huggingface/hub"],
    [{ XDG_CACHE_HOME: "/x", HF_HOME: "/h" }, "/h/hub"],
    [{ HF_HOME: "~/h" }, join(homedir(), "h/hub")],
    [{ HF_HOME: "/h", HUGGINGFACE_HUB_CACHE: "/old" }, "/old"],
    [{ HF_HOME: "/h", HUGGINGFACE_HUB_CACHE: "/old", HF_HUB_CACHE: "~" }, homedir()],
    [{ HF_HUB_CACHE: "relative" }, resolve("relative")],
  ])("%o: cache in %s", async (environment, cache) => {
    expect((await hubSettings({ token: null }, environment as NodeJS.ProcessEnv)).cache).toBe(cache);
  });

  it("find the token: given, HF_TOKEN, the saved one", async () => {
    const token = async (environment: NodeJS.ProcessEnv, given = {}) =>
      (await hubSettings(given, { HF_HOME: home, ...environment })).token;
    expect(await token({})).toBe("hf_saved");
    expect(await token({ HF_TOKEN_PATH: join(home, "other") })).toBe("hf_other");
    expect(await token({ HF_TOKEN_PATH: join(home, "empty") })).toBeNull();
    expect(await token({ HUGGING_FACE_HUB_TOKEN: "hf_old" })).toBe("hf_old");
    expect(await token({ HUGGING_FACE_HUB_TOKEN: "hf_old", HF_TOKEN: " hf_new\n" })).toBe("hf_new");
    expect(await token({ HF_TOKEN: "hf_new" }, { token: null })).toBeNull();
    await expect(token({ HF_TOKEN_PATH: home })).rejects.toThrow(/token cannot be read/);
  });

  it("refuse a token that no header carries, without showing it, and endpoints that are none", async () => {
    const error = await hubSettings({}, { HF_TOKEN: "hf_secret\nx: y" }).catch((found) => found);
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error.message).not.toContain("secret");
    for (const HF_ENDPOINT of ["huggingface.co", "file:///x", "https://me:secret@x", "https://x/?a=b"])
      await expect(hubSettings({ token: null }, { HF_ENDPOINT })).rejects.toThrow(ArgumentError);
    const mirror = await hubSettings({ token: null }, { HF_ENDPOINT: "https://mirror.example/hf//" });
    expect(mirror.endpoint).toBe("https://mirror.example/hf");
  });

  it.each(["1", "true", "ON", "yes"])("are offline with HF_HUB_OFFLINE=%s", async (HF_HUB_OFFLINE) => {
    expect((await hubSettings({ token: null }, { HF_HUB_OFFLINE })).offline).toBe(true);
    expect((await hubSettings({ token: null, offline: false }, { HF_HUB_OFFLINE })).offline).toBe(false);
    expect((await hubSettings({ token: null }, { HF_HUB_OFFLINE: "0" })).offline).toBe(false);
  });
});
