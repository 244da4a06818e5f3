/** What systems tell of GPUs' memory, each by what its tools print: none of it depends on this machine. */
import { describe, expect, it } from "vitest";
import { gpuMemories, memoryOfAdapter, type SystemReader } from "../../src/engine/gpu-memory.ts";
import { adapterMemory, ownMemory } from "../../src/engine/machine.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const RAM = 64 * GIB;

/** By command line and path; what is not there is empty. */
function system(platform: string, told: Readonly<Record<string, string>>): SystemReader {
  const read = (key: string) => told[key] ?? "";
  return {
    platform,
    run: (command, args) => read([command, ...args].join(" ")),
    read,
    list: (folder) => [
      ...new Set(
        Object.keys(told).flatMap((path) =>
          path.startsWith(`${folder}/`) ? path.slice(folder.length + 1).split("/")[0] : [],
        ),
      ),
    ],
  };
}

const SMI = "nvidia-smi --query-gpu=memory.total,name --format=csv,noheader,nounits";
const card = (number: number, vram: number, gtt: number) => ({
  [`/sys/class/drm/card${number}/device/mem_info_vram_total`]: `${vram}\n`,
  [`/sys/class/drm/card${number}/device/mem_info_gtt_total`]: `${gtt}\n`,
  [`/sys/class/drm/card${number}-DP-1/status`]: "connected\n",
});

const CLASS = "HKLM\\SYSTEM\\CurrentControlSet\\Control\\Class\\{4d36e968-e325-11ce-bfc1-08002be10318}";
const KEY = CLASS.replace("HKLM", "HKEY_LOCAL_MACHINE");
const registry = (cards: readonly (readonly [name: string, size: string])[]) => {
  const query = (value: string, type: string, of: (i: number) => string) => ({
    [`reg query ${CLASS} /s /v ${value}`]: `\r\n${cards
      .map((_, i) => `${KEY}\\000${i}\r\n    ${value}    ${type}    ${of(i)}\r\n\r\n`)
      .join("")}End of search: ${cards.length} match(es) found.\r\n`,
  });
  return {
    ...query("DriverDesc", "REG_SZ", (i) => cards[i][0]),
    ...query("HardwareInformation.qwMemorySize", "REG_QWORD", (i) => cards[i][1]),
  };
};

describe("the memory of", () => {
  it("NVIDIA's cards is nvidia-smi's, each under its name", () => {
    const found = gpuMemories(
      RAM,
      system("linux", { [SMI]: "81559, NVIDIA H100 80GB HBM3\n24564, NVIDIA GeForce RTX 4090\n" }),
    );
    expect(found).toEqual([
      {
        bytes: 81_559 * MIB,
        source: "nvidia-smi",
        vendor: "nvidia",
        name: "NVIDIA H100 80GB HBM3",
        isShared: false,
      },
      {
        bytes: 24_564 * MIB,
        source: "nvidia-smi",
        vendor: "nvidia",
        name: "NVIDIA GeForce RTX 4090",
        isShared: false,
      },
    ]);
  });

  it("AMD's cards is the driver's, and an integrated one's with what it may map", () => {
    const found = gpuMemories(
      RAM,
      system("linux", { ...card(0, 512 * MIB, 15 * GIB), ...card(1, 24 * GIB, 32 * GIB) }),
    );
    expect(found.map(({ bytes, vendor, isShared }) => [bytes, vendor, isShared])).toEqual([
      [15.5 * GIB, "amd", true],
      [24 * GIB, "amd", false],
    ]);
  });

  it("a Mac is what it lets its GPU hold", () => {
    const mac = (set: string) =>
      gpuMemories(RAM, system("darwin", { "sysctl -n iogpu.wired_limit_mb": set }))[0];
    expect(mac("0\n")).toMatchObject({ bytes: 48 * GIB, source: "macOS's default", vendor: "apple" });
    expect(mac("58982\n")).toMatchObject({ bytes: 58_982 * MIB, source: "iogpu.wired_limit_mb" });
    expect(mac("")).toMatchObject({ bytes: 48 * GIB });
  });

  it("Windows' cards is the registry's, and an integrated one's with half of the machine's", () => {
    const found = gpuMemories(
      RAM,
      system(
        "win32",
        registry([
          ["NVIDIA GeForce RTX 4090", "0x5ff000000"],
          ["Intel(R) UHD Graphics 770", "0x8000000"],
          ["Remote Display", "0x1000"],
        ]),
      ),
    );
    expect(found).toEqual([
      {
        bytes: 0x5ff000000,
        source: "the registry",
        vendor: "nvidia",
        name: "NVIDIA GeForce RTX 4090",
        isShared: false,
      },
      {
        bytes: 128 * MIB + 32 * GIB,
        source: "the registry",
        vendor: "intel",
        name: "Intel(R) UHD Graphics 770",
        isShared: true,
      },
    ]);
  });

  it.each(["linux", "darwin", "win32", "freebsd"])(
    "a %s that tells nothing, or nonsense, is not known",
    (platform) => {
      const expected = platform === "darwin" ? 1 : 0;
      expect(gpuMemories(RAM, system(platform, {}))).toHaveLength(expected);
      const nonsense = {
        [SMI]:
          "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n[N/A], NVIDIA X\n",
        "sysctl -n iogpu.wired_limit_mb": "unknown oid",
        ...card(0, Number.NaN, 1),
        ...registry([["NVIDIA X", "?"]]),
      };
      expect(gpuMemories(RAM, system(platform, nonsense))).toHaveLength(expected);
    },
  );
});

describe("of several GPUs", () => {
  const found = gpuMemories(
    RAM,
    system("linux", {
      [SMI]: "24564, NVIDIA GeForce RTX 4090\n12288, NVIDIA GeForce RTX 3060\n",
      ...card(0, 512 * MIB, 15 * GIB),
      ...card(1, 16 * GIB, 32 * GIB),
    }),
  );
  const of = (vendor: string, name: string) => memoryOfAdapter(found, { vendor, name })?.bytes ?? null;

  it("the adapter's own counts, by vendor and name", () => {
    expect(of("nvidia", "NVIDIA GeForce RTX 4090")).toBe(24_564 * MIB);
    expect(of("nvidia", "NVIDIA GeForce RTX 3060")).toBe(12_288 * MIB);
    expect(of("nvidia", "GeForce RTX 3060")).toBe(12_288 * MIB);
    expect(of("intel", "Intel(R) Arc(TM) A770")).toBeNull();
  });

  it("without a name, one with memory of its own, and the smallest of these", () => {
    expect(of("nvidia", "an unnamed adapter")).toBe(12_288 * MIB);
    expect(of("amd", "AMD Radeon RX 7800 XT (RADV NAVI32)")).toBe(16 * GIB);
  });

  it("one in software has this machine's", () => {
    const told = () => found;
    const adapter = { vendor: "google", name: "SwiftShader", isSoftware: true };
    expect(adapterMemory(adapter, told)).toEqual(ownMemory());
    expect(adapterMemory({ ...adapter, isSoftware: false }, told)).toBeNull();
    expect(
      adapterMemory({ vendor: "nvidia", name: "NVIDIA GeForce RTX 4090", isSoftware: false }, told),
    ).toEqual({
      bytes: 24_564 * MIB,
      source: "nvidia-smi",
    });
  });
});
