/** A model on the Hub opened for a look, without a download. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { PullOptions } from "../../../src/format/hub/pull.ts";
import { pull } from "../../../src/format/hub/pull.ts";
import { openHubModel } from "../../../src/format/hub/remote.ts";
import { writeSafetensors } from "../write-safetensors.ts";
import { type FakeHub, fakeHub } from "./fake-hub.ts";

const needle = readFileSync(new URL("../../../models/needle-14m/needle-14m-Q8_0.gguf", import.meta.url));

let cache: string;
let hub: FakeHub;
let options: PullOptions;
async function start(files: Record<string, Uint8Array | string>): Promise<void> {
  hub = await fakeHub(files);
  options = {
    ...{ offline: false, symlinks: true, endpoint: hub.endpoint },
    cache,
    token: "hf_secret",
    backoffMs: 1,
    attempts: 2,
  };
}
beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), "nibble-hub-"));
});
afterEach(async () => {
  await hub.close();
  rmSync(cache, { recursive: true, force: true });
});

describe("a look", () => {
  it("reads a GGUF header where it lies, and takes the token nowhere else", async () => {
    await start({ "sub/x-Q8_0.gguf": needle });
    const { checkpoint, path, bytes } = await openHubModel("hf:owner/name", options);
    expect([path, bytes]).toEqual([null, needle.length]);
    expect(checkpoint.tensors.size).toBeGreaterThan(10);
    await checkpoint.close();
    expect(existsSync(join(cache, "models--owner--name"))).toBe(false);
    for (const [host, authorization] of hub.authorizations)
      expect(authorization).toBe(hub.hub.url.includes(host) ? "Bearer hf_secret" : undefined);
    expect(hub.files.requests.length).toBeGreaterThan(0);
  });

  it("reads a safetensors folder, small files whole", async () => {
    const weights = writeSafetensors({ a: { dtype: "F32", shape: [1, 300], data: new Uint8Array(1200) } });
    await start({
      "config.json": '{"model_type": "x"}',
      "tokenizer.json": "{}",
      "model.safetensors.index.json": '{"weight_map": {"a": "model-00001-of-00001.safetensors"}}',
      "model-00001-of-00001.safetensors": weights,
    });
    const { checkpoint, bytes } = await openHubModel("hf:owner/name", options);
    expect([...checkpoint.tensors.keys()]).toEqual(["a"]);
    expect(checkpoint.metadata).toEqual({ model_type: "x" });
    expect(await checkpoint.chatTemplate()).toBeNull();
    await checkpoint.close();
    expect(bytes).toBe(weights.length);
    // What the list does not have is not asked for.
    expect(
      hub.hub.requests
        .filter((line) => line.includes("/resolve/"))
        .every((line) => /json|safetensors/.test(line)),
    ).toBe(true);
    expect(hub.hub.requests.some((line) => line.includes("chat_template"))).toBe(false);
  });

  it("reads it from this disk once it is here", async () => {
    await start({ "x-Q8_0.gguf": needle });
    const { path } = await pull("hf:owner/name", options);
    const requests = hub.hub.requests.length;
    const found = await openHubModel("hf:owner/name", options);
    await found.checkpoint.close();
    expect([found.path, found.bytes]).toEqual([path, needle.length]);
    expect(hub.hub.requests.length).toBe(requests);
  });
});
