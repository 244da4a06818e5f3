/** The examination of a machine: its rules by facts of other machines, and that it works on this one. */
import { describe, expect, it } from "vitest";
import { wiredLimit } from "../../src/engine/gpu-memory.ts";
import { thisMachine, usableMemory } from "../../src/engine/machine.ts";
import { type AdviceFacts, adviceFor, wiredLimitCommand } from "../../src/study/advice.ts";
import { measureReadRate } from "../../src/study/cpu-bandwidth.ts";
import { diagnose } from "../../src/study/doctor.ts";

const GIB = 2 ** 30;

const linux: AdviceFacts = {
  machine: { platform: "linux", node: "v22.1.0", memoryBytes: 64 * GIB, gpuMemory: null },
  hasGpu: false,
  gpuProblem: "gpu: there is no Vulkan here (libvulkan.so.1)",
  relaxedSimd: true,
  f16: true,
  osRelease: 'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n',
  gpuVendors: [],
};

describe("advice", () => {
  it("is nothing where all is well", () => {
    expect(adviceFor({ ...linux, hasGpu: true, gpuProblem: null })).toEqual([]);
  });

  it.each([
    ["ID=debian", ["0x1002"], "AMD", "sudo apt install libvulkan1 mesa-vulkan-drivers"],
    [
      'ID=nobara\nID_LIKE="rhel centos fedora"',
      ["0x8086"],
      "Intel",
      "sudo dnf install vulkan-loader mesa-vulkan-drivers",
    ],
    [
      "ID=manjaro\nID_LIKE=arch",
      ["0x1002", "0x8086", "0x8086"],
      "AMD and Intel",
      "sudo pacman -S vulkan-icd-loader vulkan-radeon vulkan-intel",
    ],
    ["", ["0x1002"], "AMD", "sudo apt install libvulkan1 mesa-vulkan-drivers"],
  ])("on Linux names the packages: %j", (osRelease, gpuVendors, names, command) => {
    const [line, ...others] = adviceFor({ ...linux, osRelease, gpuVendors });
    expect(others).toEqual([]);
    expect(line).toContain(`(${names})`);
    expect(line).toMatch(new RegExp(`: ${command}$`));
  });

  it("on Linux asks for NVIDIA's own driver, and for the loader only where it is missing", () => {
    const both = adviceFor({ ...linux, gpuVendors: ["0x10de"] });
    expect(both[0]).toMatch(/: sudo apt install libvulkan1$/);
    expect(both[1]).toMatch(/NVIDIA's own driver/);
    const driver = adviceFor({ ...linux, gpuVendors: ["0x10de"], gpuProblem: "WebGPU shows no adapter" });
    expect(driver).toEqual([both[1]]);
    expect(adviceFor(linux)).toEqual([expect.stringMatching(/no GPU/)]);
  });

  it("names the missing package, and a newer Node", () => {
    const gpuProblem = "gpu: the optional package webgpu is not installed";
    expect(adviceFor({ ...linux, gpuProblem })).toEqual([expect.stringMatching(/: npm install webgpu$/)]);
    const machine = { ...linux.machine, node: "v20.1.0" };
    expect(adviceFor({ ...linux, machine, hasGpu: true, relaxedSimd: false })).toEqual([
      expect.stringMatching(/Node v20\.1\.0 .* Node 22 or later\.$/),
    ]);
  });

  it("on a Mac gives the exact command that raises the limit", () => {
    const bytes = wiredLimit(64 * GIB, 0);
    const mac = (limit: number): AdviceFacts => ({
      ...linux,
      hasGpu: true,
      gpuProblem: null,
      machine: {
        ...linux.machine,
        platform: "darwin",
        gpuMemory: { bytes: limit, source: "macOS's default" },
      },
    });
    const [line] = adviceFor(mac(bytes));
    expect(line).toContain("48.0 GiB of 64.0 GiB");
    expect(line).toMatch(/: sudo sysctl iogpu\.wired_limit_mb=58982$/);
    // Raised as advised there is nothing left to say, and Llama 3.1 70B with 131,072 tokens fits.
    expect(adviceFor(mac(wiredLimit(64 * GIB, 58_982)))).toEqual([]);
    expect(wiredLimit(64 * GIB, 58_982)).toBeGreaterThan(50 * GIB);
  });
});

describe("memory", () => {
  it("of a container is its limit", () => {
    expect(usableMemory(64, 0)).toBe(64);
    expect(usableMemory(64, 16)).toBe(16);
    expect(usableMemory(64, 2 ** 63)).toBe(64);
  });

  it("of a Mac's GPU is two thirds, or three quarters, or what someone has set", () => {
    expect(wiredLimit(24 * GIB, 0)).toBe(16 * GIB);
    expect(wiredLimit(36 * GIB, 0)).toBe(27 * GIB);
    expect(wiredLimit(64 * GIB, 0)).toBe(48 * GIB);
    expect(wiredLimit(64 * GIB, 57_344)).toBe(56 * GIB);
    expect(wiredLimit(16 * GIB, 999_999)).toBe(16 * GIB);
  });

  it("keeps some for the system, and no command lowers the limit", () => {
    expect(wiredLimitCommand(16 * GIB, wiredLimit(16 * GIB, 0))).toBeNull();
    expect(wiredLimitCommand(24 * GIB, wiredLimit(24 * GIB, 0))).toBe(
      `sudo sysctl iogpu.wired_limit_mb=${18 * 1024}`,
    );
    expect(wiredLimitCommand(128 * GIB, 128 * GIB)).toBeNull();
  });
});

describe("this machine", () => {
  it("has what a plan needs", () => {
    const machine = thisMachine();
    expect(machine.cores).toBeGreaterThanOrEqual(1);
    expect(machine.threads).toBeGreaterThanOrEqual(machine.cores);
    expect(machine.memoryBytes).toBeGreaterThan(2 ** 28);
    expect(machine.freeBytes).toBeLessThanOrEqual(machine.memoryBytes);
  });

  it("is read by threads", async () => {
    const found = await measureReadRate(2, 2 ** 20 + 1);
    expect(found.threads).toBe(2);
    // Whole pages for each.
    expect(found.bytes).toBe(18 * 65_536);
    expect(found.bytesPerSecond).toBeGreaterThan(1e6);
  });

  it("is examined, and bounds follow from what was measured", async () => {
    const found = await diagnose();
    expect(found.problems).toEqual([]);
    const rate = found.used.device === "gpu" ? found.gpuReadBytesPerSecond : found.cpu.readBytesPerSecond;
    const shapes = ["llama-3.2-1b", "llama-3.1-8b", "llama-3.1-70b", "qwen-3-30b-a3b"];
    expect(found.speeds.map(({ shape }) => shape)).toEqual(shapes);
    // Of a mixture's experts a token reads those that it takes.
    expect(found.speeds[3].contexts[0].bytes).toBeLessThan(found.speeds[1].contexts[0].bytes / 2);
    for (const { contexts } of found.speeds)
      for (const { bytes, tokensPerSecond } of contexts)
        expect(tokensPerSecond * bytes).toBeCloseTo(rate!, -3);
    // 70 billion parameters less the embedding, of which one row is read, at 4.5 bits.
    const [empty, deep] = found.speeds[2].contexts;
    expect(empty.bytes / (((70_553_706_496 - 128_256 * 8192) * 4.5) / 8)).toBeCloseTo(1, 3);
    // In kv4, first and newest tokens in float16.
    const bits = ((deep.bytes - empty.bytes) * 8) / (80 * 8 * 128 * 2 * 32_768);
    expect(bits).toBeGreaterThan(4.3);
    expect(bits).toBeLessThan(4.8);
    if (found.adapters.some(({ software }) => software)) expect(found.gpuProblem).toBeNull();
  });
});
