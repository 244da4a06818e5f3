/** Runs conformance cases (device-cases.ts) on a device and on the reference: builds graphs, feeds steps, compares. */
import { kvCodec } from "../../src/cache/codecs.ts";
import { blocksOf, poolPages, recentPages } from "../../src/cache/layers.ts";
import {
  type Allocation,
  type Device,
  type Graph,
  type Op,
  PAGE_SLOTS,
  type Step,
  type Value,
  type Weight,
} from "../../src/device/contract.ts";
import { Recorder } from "../../src/device/recorder.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import type { Tensor } from "../../src/format/tensor.ts";
import { type DeviceCase, type Given, type Shape, VOCAB } from "./device-cases.ts";
import { PagedTexts } from "./paged.ts";
import { gaussian, memoryTensor, random, randomTensor } from "./random-tensor.ts";

/**
 * Tokens that a text has room for, at least: what the longest case needs. Kernels have sizes of their own by the longest
 * context, and cases of equal ones share what takes a software GPU most of its time to compile.
 */
const CONTEXT = 544;

function eachOf(step: number | readonly number[]): readonly number[] {
  return typeof step === "number" ? [step] : step;
}

function sumOf(step: number | readonly number[]): number {
  return eachOf(step).reduce((sum, tokens) => sum + tokens, 0);
}

/** Tokens of the longest text after all steps, and room. */
function contextOf({ steps }: DeviceCase): number {
  const totals = steps.reduce<number[]>((sums, step) => {
    eachOf(step).forEach((tokens, text) => {
      sums[text] = (sums[text] ?? 0) + tokens;
    });
    return sums;
  }, []);
  return Math.max(CONTEXT, ...totals);
}

/** What a case may be off by on a GPU; `matrices`: on one that multiplies chunks of tokens in float16. */
export function gpuTolerance(testCase: DeviceCase, matrices = false): number {
  const allowed = testCase.gpuTolerance ?? testCase.tolerance;
  return (matrices ? testCase.matrixTolerance : undefined) ?? allowed;
}

/** The operations of a case's graph, without those that make its inputs. */
export function operationsOf(testCase: DeviceCase): Set<Op["op"]> {
  return new Set(build([testCase]).graph.ops.map(({ op }) => op));
}

interface Built {
  graph: Graph;
  /** By the weight's name; made when asked for. */
  tensors: Map<string, () => Tensor>;
  /** Of each case. */
  values: Value[];
}

/** What is random is made once for all cases and devices of a test file. */
const madeTensors = new Map<string, Tensor>();

/** A graph of cases that run the same steps; each has weights of its own, so that nothing of two is joined. */
function build(cases: readonly DeviceCase[]): Built {
  const [first] = cases;
  const tensors = new Map<string, () => Tensor>();
  const maxTokens = first.maxTokens ?? Math.max(...first.steps.map(sumOf));
  const op = new Recorder(maxTokens, first.outputs ?? maxTokens);
  const texts = Math.max(...first.steps.map((step) => eachOf(step).length));
  let caches = 0;
  const context = contextOf(first);
  const needs = { cacheTokens: texts * blocksOf(context) * PAGE_SLOTS, texts, maxTokens };
  const givenTo = (at: number): Given => {
    const own = (name: string) => (cases.length > 1 ? `${at}: ${name}` : name);
    const shaped = (role: Weight["role"], rows: number, cols: number, seed: number, shape: Shape) => {
      const name = own(`shaped ${role} ${seed} ${tensors.size}`);
      tensors.set(name, () => {
        const next = random(seed);
        const values = Float32Array.from({ length: rows * cols }, (_, i) =>
          shape(gaussian(next), Math.floor(i / cols), i % cols),
        );
        return memoryTensor(name, "f32", rows, cols, new Uint8Array(values.buffer));
      });
      return op.weight(name, role, "f32", rows, cols);
    };
    const given: Given = {
      weight(role, type, rows, cols, seed) {
        const name = `${role} ${type} ${rows} ${cols} ${seed}`;
        tensors.set(own(name), () => {
          const made = madeTensors.get(name) ?? randomTensor(name, type, rows, cols, seed);
          madeTensors.set(name, made);
          return made;
        });
        return op.weight(own(name), role, type, rows, cols);
      },
      input: (cols, seed) => op.embed(given.weight("matrix", "f32", VOCAB, cols, seed), 20),
      shaped: (cols, seed, shape) => op.embed(shaped("matrix", VOCAB, cols, seed, shape)),
      shapedVector: (cols, seed, shape) => shaped("vector", 1, cols, seed, shape),
      cache: ({ codec, window, ...shape }) =>
        op.cache({
          layer: caches++,
          codec: kvCodec(codec),
          ...shape,
          pool: op.pool(window, poolPages(window, needs)),
        }),
    };
    return given;
  };
  const values = cases.map((testCase, at) => op.label(testCase.build(op, givenTo(at)), `case ${at}`));
  const packed = first.kv === undefined ? null : kvCodec(first.kv).packed;
  if (packed) op.recentPool(recentPages(packed, needs));
  const graph = op.finish(values[0], { texts, blocks: blocksOf(context), keepLabels: cases.length > 1 });
  return { graph, tensors, values };
}

/** Runs cases on a device, all in one allocation; gives the compared value of each after the last step. */
async function run(cases: readonly DeviceCase[], device: Device): Promise<Float32Array[]> {
  const { graph, tensors, values } = build(cases);
  const allocation = await device.allocate(graph);
  try {
    for (const weight of graph.weights) await allocation.load(weight, tensors.get(weight.name)!());
    const rows = await runSteps(cases[0], graph, allocation);
    const found: Float32Array[] = [];
    for (const value of values) found.push(await allocation.read(value, 0, rows[value.rows]));
    return found;
  } finally {
    await allocation.close();
  }
}

/** Runs a case's steps; gives the rows that values have after the last one. */
async function runSteps(
  testCase: DeviceCase,
  graph: Graph,
  allocation: Allocation,
): Promise<Record<Value["rows"], number>> {
  const texts = new PagedTexts(allocation, graph);
  const rows = { tokens: 0, outputs: 0 };
  for (const step of testCase.steps) {
    const runs = eachOf(step).flatMap((tokens, text) => {
      const position = texts.positions[text];
      const ids = Array.from({ length: tokens }, (_, i) => ((position + i) * 31 + 7 * text) % VOCAB);
      return tokens > 0 ? [{ text, ids, outputs: Math.min(tokens, testCase.outputs ?? tokens) }] : [];
    });
    await texts.run(runs);
    rows.tokens = sumOf(step);
    rows.outputs = runs.reduce((sum, run) => sum + run.outputs, 0);
  }
  return rows;
}

/** A case's graph and the steps that it runs, for what looks at them without computing. */
export async function caseSteps(testCase: DeviceCase): Promise<{ graph: Graph; steps: readonly Step[] }> {
  const { graph } = build([testCase]);
  const steps: Step[] = [];
  const allocation: Pick<Allocation, "run" | "setPages" | "writePages"> = {
    setPages() {},
    async writePages() {},
    async run(step) {
      steps.push(step);
      return { chosen: Promise.resolve([]) };
    },
  };
  await runSteps(testCase, graph, allocation as Allocation);
  return { graph, steps };
}

/** What the reference gives, once for all devices of a test file. */
const expectedValues = new WeakMap<DeviceCase, Promise<Float32Array>>();

export function expectedOf(testCase: DeviceCase): Promise<Float32Array> {
  const known = expectedValues.get(testCase) ?? run([testCase], referenceDevice()).then(([value]) => value);
  expectedValues.set(testCase, known);
  return known;
}

/** What a device gives for a case. */
export type Runs = (testCase: DeviceCase) => Promise<Float32Array>;

/** Runs each case in an allocation of its own. */
function alone(device: Device): Runs {
  return async (testCase) => (await run([testCase], device))[0];
}

/**
 * Runs cases of the same steps in one allocation, the first time that one of them is asked for: threads of a CPU device start
 * once for all. Those with states and with packed caches, whose pools a graph has once, run alone.
 */
export function together(device: Device, cases: readonly DeviceCase[]): Runs {
  const groups = new Map<string, DeviceCase[]>();
  for (const testCase of cases) {
    const { name, steps, maxTokens, outputs, kv } = testCase;
    const isPacked = kv !== undefined && kvCodec(kv).packed;
    const isAlone = isPacked || build([testCase]).graph.states.length > 0;
    const key = JSON.stringify([steps, maxTokens, outputs, isAlone && name]);
    groups.set(key, [...(groups.get(key) ?? []), testCase]);
  }
  const groupOf = new Map(
    [...groups.values()].flatMap((group) => group.map((each) => [each, group] as const)),
  );
  const found = new Map<DeviceCase[], Promise<Float32Array[]>>();
  return async (testCase) => {
    const group = groupOf.get(testCase)!;
    const values = found.get(group) ?? run(group, device);
    found.set(group, values);
    return (await values)[group.indexOf(testCase)];
  };
}

/** Root mean square error of the device against the reference, relative to the reference. wanted: `expectedOf`'s. */
export async function caseError(
  testCase: DeviceCase,
  device: Device | Runs,
  wanted?: Float32Array,
): Promise<number> {
  wanted ??= await expectedOf(testCase);
  const runs = typeof device === "function" ? device : alone(device);
  const found = await runs(testCase);
  if (found.length !== wanted.length) return Number.POSITIVE_INFINITY;
  const cols = testCase.byRows
    ? wanted.length / sumOf(testCase.steps[testCase.steps.length - 1])
    : wanted.length;
  let worst = 0;
  for (let at = 0; at < wanted.length; at += cols) {
    const error = relative(found.subarray(at, at + cols), wanted.subarray(at, at + cols));
    // A NaN, too, is worse.
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

function relative(found: Float32Array, wanted: Float32Array): number {
  let difference = 0;
  let size = 0;
  for (let i = 0; i < wanted.length; i++) {
    difference += (found[i] - wanted[i]) ** 2;
    size += wanted[i] ** 2;
  }
  return Math.sqrt(difference / size);
}
