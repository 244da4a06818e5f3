/**
 * What a page may load, told apart: URLs, files, sources and folders. Runs in Node with a GPU that has no adapter, which is
 * asked for one only when the model was opened and found to be known; browser.test.ts loads onto a real one.
 */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { load, type WebLoadOptions, type WebModel } from "../../src/engine/load-web.ts";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { AbortedError, ArgumentError, DeviceError, type NibbleError } from "../../src/format/errors.ts";
import { answer, type Server, serve } from "../format/http-server.ts";
import { memoryFolder } from "../format/memory-folder.ts";
import { T } from "../format/write-gguf.ts";
import { tinyModel } from "./tiny-model.ts";

const whole = tinyModel();
const part = (number: number) =>
  tinyModel({
    keys: (all) => [...all, ["split.no", T.u16, number], ["split.count", T.u16, 2]],
    tensors: (all) => (number === 0 ? all.slice(0, 7) : all.slice(7)),
  });
const FILES: Record<string, Uint8Array> = {
  "tiny.gguf": whole,
  "tiny-00001-of-00002.gguf": part(0),
  "tiny-00002-of-00002.gguf": part(1),
};
const file = (name: string) => new File([Uint8Array.from(FILES[name])], name);

let asked = 0;
const gpu = {
  requestAdapter: async () => {
    asked++;
    return null;
  },
} as unknown as GPU;

let server: Server;
beforeAll(async () => {
  server = await serve((request, response) => {
    const found = FILES[new URL(request.url!, "http://localhost").pathname.slice(1)];
    if (found) answer(request, response, found);
    else response.writeHead(404).end();
  });
});
afterAll(() => server.close());

function failure(model: WebModel, options: WebLoadOptions = { gpu }): Promise<NibbleError> {
  return load(model, options).then(
    () => Promise.reject(new Error("it was loaded")),
    (error: NibbleError) => error,
  );
}

describe("a page loads", () => {
  it.each<[string, () => WebModel]>([
    ["a URL", () => `${server.url}tiny.gguf`],
    ["a URL object, with a query", () => new URL("tiny.gguf?download=true", server.url)],
    ["any part of a split model by its URL", () => `${server.url}tiny-00002-of-00002.gguf?version=1`],
    ["a File", () => file("tiny.gguf")],
    ["a Blob", () => new Blob([Uint8Array.from(whole)])],
    [
      "the parts of a split model",
      () => [file("tiny-00001-of-00002.gguf"), file("tiny-00002-of-00002.gguf")],
    ],
    ["a Source", () => bufferSource("tiny.gguf", whole)],
  ])("%s", async (_, model) => {
    const before = asked;
    const error = await failure(model());
    expect(error).toBeInstanceOf(DeviceError);
    expect(error.message).toMatch(/no WebGPU adapter was found\. .*browser/);
    expect(asked).toBe(before + 1);
  });

  it.each<[string, () => WebModel, RegExp]>([
    ["a URL that ends in /", () => `${server.url}folder/`, /^http:.*\/folder: .*config\.json/],
    ["files without a GGUF", () => [new File(["{}"], "tokenizer.json")], /^the chosen files: .*config\.json/],
    ["a Folder", () => memoryFolder({}), /^folder: .*config\.json/],
    [
      "one of two parts",
      () => [file("tiny-00001-of-00002.gguf")],
      /00002-of-00002\.gguf: this part .* is missing/,
    ],
    ["another file", () => new File([readFileSync(import.meta.filename)], "text.ts"), /^text\.ts/],
  ])("%s, and says what is missing", async (_, model, message) => {
    expect(await failure(model())).toMatchObject({ code: "format", message: expect.stringMatching(message) });
  });
});

describe("a page is told", () => {
  it("that there is no WebGPU, before anything is fetched", async () => {
    const before = server.requests.length;
    const error = await failure(`${server.url}tiny.gguf`, {});
    expect(error).toBeInstanceOf(DeviceError);
    expect(error.message).toMatch(/no WebGPU \(navigator\.gpu\)\. Use a current/);
    expect(server.requests.length).toBe(before);
  });

  it("that its arguments are wrong", async () => {
    for (const model of [undefined, null, 7, {}, "models/tiny.gguf"])
      expect(await failure(model as WebModel)).toBeInstanceOf(ArgumentError);
    const cpu = { gpu, device: "cpu" } as unknown as WebLoadOptions;
    expect(await failure("x", cpu)).toBeInstanceOf(ArgumentError);
  });

  it("that it was aborted", async () => {
    expect(await failure("x", { gpu, signal: AbortSignal.abort() })).toBeInstanceOf(AbortedError);
  });
});
