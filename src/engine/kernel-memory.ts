/**
 * The measured times of kernel sets on this machine's adapters (Node only): a small JSON file in the user's cache folder, by
 * adapter, driver and kernels' texts. If anything is wrong with the file, the sets are timed again; failing to write it is not an
 * error.
 */
import { createHash } from "node:crypto";
import { readFile, rename, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import type { TraitOptions } from "../device/webgpu/gpu.ts";
import { KERNELS, LIBS } from "../device/webgpu/kernels.ts";
import type { WebgpuDevice } from "../device/webgpu/webgpu.ts";
import { makeFolder } from "../format/make-folder.ts";
import {
  checkKernels,
  fastest,
  KERNEL_SETS,
  type KernelChoice,
  type KernelSet,
  kernelSets,
  timeKernels,
} from "./kernel-choice.ts";

const MOST_BYTES = 65_536;
const MOST_ENTRIES = 32;

type Times = Partial<Record<KernelSet, number>>;

export interface ChoiceOptions {
  /** A set by name; default: the fastest. */
  readonly kernels?: string;
  /** Default: in the user's cache folder. */
  readonly file?: string;
  readonly time?: typeof timeKernels;
}

/** The device with its fastest kernels, or the requested ones. Throws ArgumentError for a set that it does not have. */
export async function withKernels(
  open: (traits?: TraitOptions) => Promise<WebgpuDevice>,
  options: ChoiceOptions = {},
): Promise<WebgpuDevice> {
  const { kernels, file = memoryFile(), time = timeKernels } = options;
  const device = await open();
  const { traits, adapter } = device;
  const sets = kernelSets(traits, adapter.isSoftware);
  const having = async (choice: KernelChoice) =>
    Object.assign(await open(KERNEL_SETS[choice.set]), { kernels: choice });
  if (kernels !== undefined) return having({ set: checkKernels(kernels, traits), sets, ms: null });
  if (sets.length === 1) return having({ set: sets[0], sets, ms: null });
  const key = await keyOf(device);
  const known = await remembered(file);
  const before = timesOf(known.get(key), sets);
  // Loading a model reports an adapter's error itself.
  const ms = before ?? (await time(open, sets).catch(() => null));
  if (!before && timesOf(ms, sets)) {
    const others = [...known].filter(([other]) => other !== key);
    await remember(file, new Map([...others, [key, ms]]));
  }
  return having({ set: ms ? fastest(sets, ms) : sets[0], sets, ms });
}

function memoryFile(): string {
  return join(process.env.XDG_CACHE_HOME?.trim() || join(homedir(), ".cache"), "nibble", "kernels.json");
}

/** Changes with the adapter, its driver as far as it is reported, Dawn and the kernels. */
async function keyOf({ adapter }: WebgpuDevice): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify([KERNELS, LIBS]));
  return `${adapter.vendor}, ${adapter.name}, ${adapter.driver}, ${hash.digest("hex").slice(0, 16)}`;
}

/** By key: the file's contents, unchecked. */
async function remembered(file: string): Promise<Map<string, unknown>> {
  try {
    const found = await stat(file);
    if (!found.isFile() || found.size > MOST_BYTES) return new Map();
    const read: unknown = JSON.parse(await readFile(file, "utf8"));
    if (typeof read !== "object" || read === null || Array.isArray(read)) return new Map();
    return new Map(Object.entries(read));
  } catch {
    return new Map();
  }
}

/** Times of all sets, if they are numbers; else null. */
function timesOf(entry: unknown, sets: readonly KernelSet[]): Times | null {
  if (typeof entry !== "object" || entry === null) return null;
  const times = new Map(Object.entries(entry));
  const found = sets.map((set) => [set, times.get(set)] as const);
  const good = found.every(([, ms]) => typeof ms === "number" && ms > 0 && ms < 1e6);
  return good ? (Object.fromEntries(found) as Times) : null;
}

async function remember(file: string, entries: Map<string, unknown>): Promise<void> {
  const newest = [...entries].slice(-MOST_ENTRIES);
  const made = `${file}.${process.pid}`;
  try {
    makeFolder(dirname(file));
    await writeFile(made, `${JSON.stringify(Object.fromEntries(newest), null, 2)}\n`, { flag: "wx" });
    await rename(made, file);
  } catch {
    // They are timed again the next time.
  }
}
