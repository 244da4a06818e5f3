/** Which adapter is taken, how it is named, and what is said where there is none. */
import { afterEach, expect, describe as group, it, vi } from "vitest";
import type { Device } from "../../../src/device/contract.ts";
import { dawnGpu } from "../../../src/device/webgpu/dawn.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { openDevice } from "../../../src/engine/load.ts";
import { ArgumentError, DeviceError } from "../../../src/format/errors.ts";
import { describeGpu, IS_SWIFTSHADER, nullGpu, softwareGpu } from "./gpu.ts";
import { smallGraph } from "./graphs.ts";
import { wrapped } from "./wrap.ts";
import { pretended } from "./wrapped.ts";

const WAY_OUT = "Buy a GPU.";

/** The one line of the DeviceError that it ends with. */
async function refusal(device: Promise<unknown>): Promise<string> {
  const error = await device.then(
    () => Promise.reject(new Error("it was given")),
    (error: Error) => error,
  );
  expect(error).toBeInstanceOf(DeviceError);
  expect(error.message).not.toMatch(/\n/);
  return error.message;
}

const fake = (requestAdapter: GPU["requestAdapter"]) => ({ requestAdapter }) as GPU;

group("no adapter", () => {
  it("is one error, with what to do where that is known", async () => {
    const gpu = fake(async () => null);
    expect(await refusal(webgpuDevice(gpu))).toBe("gpu: no WebGPU adapter was found");
    expect(await refusal(webgpuDevice(gpu, { wayOut: WAY_OUT }))).toBe(
      "gpu: no WebGPU adapter was found. Buy a GPU.",
    );
  });

  it("because the search fails", async () => {
    const gpu = fake(() => Promise.reject(new TypeError("out of\n  luck")));
    expect(await refusal(webgpuDevice(gpu, { wayOut: WAY_OUT }))).toBe(
      "gpu: no WebGPU adapter can be had: out of luck. Buy a GPU.",
    );
  });
});

describeGpu("the adapter", () => {
  it("that computes nothing is refused", async () => {
    expect(await refusal(webgpuDevice(await nullGpu(), { wayOut: WAY_OUT }))).toBe(
      "gpu: the adapter null-backend computes nothing. Buy a GPU.",
    );
  });

  it.runIf(IS_SWIFTSHADER)(
    "that is a program is refused where only GPUs will do, else taken and named so",
    async () => {
      const gpu = await softwareGpu();
      expect(await refusal(webgpuDevice(gpu, { software: false }))).toMatch(
        /swiftshader.* is a program, not a GPU/,
      );
      const { description } = await webgpuDevice(gpu);
      expect(description).toMatch(/^swiftshader\S* through WebGPU \(in software, f32, subgroups of 4\)$/);
    },
  );

  it("is asked for by its speed, and its name is told", async () => {
    const { gpu } = await pretended({ info: { vendor: "acme", device: "", architecture: "roadrunner" } });
    const asked: unknown[] = [];
    const spied = wrapped(gpu, {
      requestAdapter: (options: GPURequestAdapterOptions) => {
        asked.push(options);
        return gpu.requestAdapter(options);
      },
    });
    expect((await webgpuDevice(spied)).description).toMatch(/^acme roadrunner through WebGPU/);
    expect(asked).toEqual([{ powerPreference: "high-performance" }]);
  });

  it("that refuses to open is named with its reason", async () => {
    const { gpu } = await pretended();
    const refusing = wrapped(gpu, {
      requestAdapter: async () =>
        wrapped((await gpu.requestAdapter())!, {
          requestDevice: () => Promise.reject(new DOMException("no more\ndevices", "OperationError")),
        }),
    });
    const device = await webgpuDevice(refusing);
    expect(await refusal(device.allocate(smallGraph()))).toBe(
      "gpu: pretence cannot create a device: no more devices",
    );
  });

  it("that is gone when a second allocation asks for it", async () => {
    const { gpu } = await pretended();
    let left = 1;
    const device = await webgpuDevice(
      wrapped(gpu, { requestAdapter: async () => (left-- > 0 ? gpu.requestAdapter() : null) }),
    );
    const first = await device.allocate(smallGraph());
    expect(await refusal(device.allocate(smallGraph()))).toBe("gpu: the adapter pretence is gone");
    await first.close();
  });
});

describeGpu("a chosen adapter", () => {
  it.runIf(IS_SWIFTSHADER)("may be named by a part, in any case", async () => {
    const device: Device = await openDevice({ device: "gpu", adapter: "swiftSHADER" });
    expect(device.description).toMatch(/swiftshader/);
    expect((await openDevice({ adapter: "shader" })).name).toBe("gpu");
  });

  it.runIf(IS_SWIFTSHADER)("that is none is answered with those there are", async () => {
    for (const device of ["gpu", undefined] as const)
      expect(await refusal(openDevice({ device, adapter: "Voodoo 2" }))).toBe(
        'gpu: no adapter has "Voodoo 2" in its name; there are: SwiftShader Device (Subzero)',
      );
  });
});

group("the default device", () => {
  it.runIf(IS_SWIFTSHADER)("is the CPU where there is only a GPU in software", async () => {
    expect((await openDevice({})).name).toBe("wasm");
  });

  it.each(["cpu", "reference"] as const)("%s has no adapters to choose from", async (device) => {
    await expect(openDevice({ device, adapter: "any" })).rejects.toThrow(ArgumentError);
  });
});

group("the package webgpu", () => {
  afterEach(() => {
    vi.doUnmock("webgpu");
    vi.resetModules();
  });

  const refusedWith = async (code: string | undefined, message: string) => {
    vi.resetModules();
    // vitest would wrap what the factory throws.
    const get = () => {
      throw Object.assign(new Error(message), { code });
    };
    vi.doMock("webgpu", () => Object.defineProperty({}, "globals", { enumerable: true, get }));
    // A module of its own: the error's class is another one, too.
    const { dawnGpu: fresh } = await import("../../../src/device/webgpu/dawn.ts");
    return fresh().then(
      () => "it was given",
      (error: Error) => error.message,
    );
  };

  it("may be missing", async () => {
    expect(await refusedWith("ERR_MODULE_NOT_FOUND", "Cannot find package")).toBe(
      "gpu: the optional package webgpu is not installed; npm i webgpu adds it. Without a GPU the device cpu works.",
    );
  });

  it("may not fit the system", async () => {
    expect(await refusedWith(undefined, "version `GLIBC_2.34' not\nfound")).toMatch(
      /^gpu: the optional package webgpu does not load: /,
    );
  });
});

describeGpu("of several adapters", () => {
  afterEach(() => {
    vi.doUnmock("webgpu");
    vi.resetModules();
  });

  /** The flag that Dawn is given last, with two adapters in its order of preference. */
  async function flagFor(adapter: string | undefined): Promise<string | undefined> {
    const created: string[][] = [];
    const told = "no suitable backends found\nAvailable adapters:";
    const list = ["NVIDIA GeForce RTX 4090", "Intel(R) UHD Graphics 770", "llvmpipe (LLVM 19)"];
    const message = [told, ...list.map((name) => ` * backend: 'vulkan', name: '${name}'`)].join("\n");
    const create = (flags: string[]) => {
      created.push(flags);
      return { requestAdapter: () => Promise.reject(new Error(message)) };
    };
    vi.resetModules();
    vi.doMock("webgpu", () => ({ globals: {}, create }));
    const { dawnGpu: fresh } = await import("../../../src/device/webgpu/dawn.ts");
    await fresh({ adapter });
    return created[created.length - 1].find((flag) => flag.startsWith("adapter="));
  }

  it("the first that has the name is taken; without a name Dawn chooses by speed", async () => {
    expect(await flagFor("intel(r)")).toBe("adapter=Intel(R) UHD Graphics 770");
    expect(await flagFor("LLVM")).toBe("adapter=llvmpipe (LLVM 19)");
    expect(await flagFor("i")).toBe("adapter=NVIDIA GeForce RTX 4090");
    expect(await flagFor(undefined)).toBeUndefined();
  });
});

group("without Vulkan", () => {
  it.skipIf(process.platform !== "linux")(
    "Dawn is not asked, and the error says what is missing",
    async () => {
      const dlopen = vi.spyOn(process, "dlopen").mockImplementation((_, name) => {
        throw new Error(`${name}: cannot open shared object file: No such file or directory`);
      });
      try {
        expect(await refusal(dawnGpu())).toMatch(
          /^gpu: there is no Vulkan here \(libvulkan\.so\.1\); .* the device cpu works\.$/,
        );
      } finally {
        dlopen.mockRestore();
      }
    },
  );
});
