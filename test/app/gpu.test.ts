/** `nibble run` and GPUs: one in software, none, and the wrong ones. What is said is one line, and the process ends. */
import { beforeAll, describe, expect, it } from "vitest";
import { IS_SWIFTSHADER } from "../device/webgpu/gpu.ts";
import { nibble, requireFreshBuild } from "./nibble.ts";

const FACT = "Ann Harlow's favorite color is red.";
const onGpu = ["run", "needle", "hi", "--device", "gpu"];

beforeAll(requireFreshBuild);

describe.runIf(IS_SWIFTSHADER)("nibble run --device gpu", () => {
  it("answers as the CPU does, says on what, and ends by itself", async () => {
    // A fact keeps every choice clear, so that devices of different arithmetic agree. 31 tokens: one tile of products.
    const asked = ["run", "needle", "What is the favorite color of Ann Harlow?", "--system", FACT];
    const options = ["--kv", "int4", "--context", "64", "--temperature", "0", "-n", "4", "--json"];
    const answer = async (...device: string[]) => {
      const { code, stdout, stderr } = await nibble([...asked, ...options, "--device", ...device]);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      return JSON.parse(stdout);
    };
    const { device, ids } = await answer("gpu", "--adapter", "swiftshader");
    expect(device).toMatch(/^swiftshader\S* through WebGPU \(in software, /);
    expect(ids.length).toBe(4);
    expect(ids).toEqual((await answer("cpu")).ids);
  });

  it.each<[string, string[], NodeJS.ProcessEnv, number, RegExp]>([
    [
      "an adapter that is not there",
      ["--adapter", "Voodoo"],
      {},
      1,
      /^nibble: gpu: no adapter has "Voodoo" in its name; there are: SwiftShader [^\n]*\n$/,
    ],
    [
      "an adapter for another device",
      ["--device", "cpu", "--adapter", "x"],
      {},
      2,
      /^nibble: --adapter is x; allowed: [^\n]*\n$/,
    ],
    [
      "an adapter that computes nothing",
      [],
      { DAWNNODE_BACKEND: "null" },
      1,
      /^nibble: gpu: the adapter null-backend computes nothing\. [^\n]* cpu [^\n]*\n$/,
    ],
    [
      "a backend that does not exist",
      [],
      { DAWNNODE_BACKEND: "abacus" },
      1,
      /^nibble: gpu: no WebGPU adapter can be had: unrecognised backend 'abacus'[^\n]*\n$/,
    ],
    [
      // Where the system has a Vulkan loader but no drivers, Dawn adds warnings of its own.
      "no driver",
      [],
      { VK_ICD_FILENAMES: "none.json", VK_DRIVER_FILES: "none.json", LD_LIBRARY_PATH: undefined },
      1,
      /^(Warning: [\s\S]*)?nibble: gpu: (there is no Vulkan here|no WebGPU adapter was found)[^\n]* cpu [^\n]*\n$/,
    ],
  ])("%s", async (_, args, env, code, message) => {
    const ended = await nibble([...onGpu, ...args], "", env);
    expect(ended.stderr).toMatch(message);
    expect(ended).toMatchObject({ code, stdout: "" });
  });
});
