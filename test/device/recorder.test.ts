/** Placement of activations: random graphs whose values are written and read in a simulated arena. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import type { Graph, Value } from "../../src/device/contract.ts";
import { inputsOf, outputOf, overwritable } from "../../src/device/facts.ts";
import { Recorder } from "../../src/device/recorder.ts";
import { ArgumentError } from "../../src/format/errors.ts";
import { choice, MAX_OUTPUTS, MAX_TOKENS, randomGraph } from "./random-graph.ts";

const bytesOf = (value: Value) => (value.rows === "tokens" ? MAX_TOKENS : MAX_OUTPUTS) * value.cols * 4;

/** Runs the graph over the arena in 64-byte cells that know whose they are. */
function simulate(graph: Graph): void {
  const owner = new Int32Array(graph.arenaBytes / 64).fill(-1);
  const cells = (value: Value): [number, number] => {
    const from = graph.offsets[value.id];
    expect(from % 256).toBe(0);
    expect(from + bytesOf(value)).toBeLessThanOrEqual(graph.arenaBytes);
    return [from / 64, Math.ceil((from + bytesOf(value)) / 64)];
  };
  const check = (value: Value) => {
    for (let [at, end] = cells(value); at < end; at++) expect(owner[at]).toBe(value.id);
  };
  for (const op of graph.ops) {
    const inputs = inputsOf(op);
    inputs.forEach(check);
    const out = outputOf(op);
    if (!out) continue;
    const [from, to] = cells(out);
    for (const input of inputs) {
      const [first, last] = cells(input);
      if (last <= from || first >= to) continue;
      // Written over an input while it is read: element by element only, and exactly in its place.
      expect(overwritable(op)).toContain(input);
      expect(["rmsNorm", "rope", "gate", "add", "softcap", "scale"]).toContain(op.op);
      expect([first, last]).toEqual([from, to]);
    }
    owner.fill(out.id, from, to);
  }
  for (const value of [graph.logits, ...graph.labels.values()]) check(value);
}

describe("placement", () => {
  it("never lets two values that are alive share memory, labels and logits to the end", () => {
    const property = fc.property(
      fc.array(choice, { maxLength: 40 }),
      fc.nat(1000),
      fc.boolean(),
      (choices, last, keepLabels) => simulate(randomGraph(choices, last, keepLabels)),
    );
    fc.assert(property, { numRuns: 300, seed: 1 });
  });

  it("needs no more for a deep chain than for one block", () => {
    const deep = (blocks: number) => {
      const op = new Recorder(8, 8);
      let x = op.embed(op.weight("embedding", "matrix", "f32", 10, 64));
      for (let i = 0; i < blocks; i++) {
        const up = op.matmul(op.rmsNorm(x, null, 1e-6), op.weight("up", "matrix", "f32", 96, 64));
        x = op.add(x, op.matmul(up, op.weight("down", "matrix", "f32", 64, 96)));
      }
      return op.finish(x).arenaBytes;
    };
    expect(deep(50)).toBe(deep(2));
  });
});

describe("in place", () => {
  const open = () => {
    const op = new Recorder(4, 2);
    const x = op.embed(op.weight("embedding", "matrix", "f32", 10, 64));
    return { op, x };
  };

  it("an element-wise operation takes the place of an input that dies with it", () => {
    const { op, x } = open();
    const y = op.rmsNorm(x, null, 1e-6);
    const z = op.softcap(y, 3);
    const graph = op.finish(z);
    expect(graph.offsets).toEqual([0, 0, 0]);
    expect(graph.arenaBytes).toBe(1024);
  });

  it("but not of one that is read later, nor of one that was given a name to keep", () => {
    const { op, x } = open();
    const y = op.rmsNorm(x, null, 1e-6);
    const sum = op.finish(op.add(op.softcap(y, 1), y));
    expect(sum.offsets[2]).not.toBe(sum.offsets[1]);

    const named = open();
    const normed = named.op.rmsNorm(named.op.label(named.x, "x"), null, 1e-6);
    const kept = named.op.finish(normed, { keepLabels: true });
    expect(kept.offsets[1]).not.toBe(kept.offsets[0]);
    expect([...kept.labels.keys()]).toEqual(["x"]);
    expect(named.op.finish(normed).labels.size).toBe(0);
  });

  it("a product, attention and a change of rows never are", () => {
    const { op, x } = open();
    const y = op.matmul(x, op.weight("square", "matrix", "f32", 64, 64));
    const z = op.takeOutputs(y);
    const { offsets } = op.finish(z);
    expect(offsets[y.id]).not.toBe(offsets[x.id]);
    expect(offsets[z.id]).not.toBe(offsets[y.id]);
  });

  it("a gate of several columns takes the place of what it acts on, never of the gates", () => {
    // One row: gates and what they act on are rounded up to as many bytes.
    const op = new Recorder(1, 1);
    const gates = op.embed(op.weight("gates", "matrix", "f32", 10, 16));
    const up = op.embed(op.weight("up", "matrix", "f32", 10, 64));
    const { offsets } = op.finish(op.gate(gates, up, "sigmoid"));
    expect(offsets[0]).not.toBe(offsets[1]);
    expect(offsets[2]).toBe(offsets[1]);
  });

  it("adding a value to itself is", () => {
    const { op, x } = open();
    expect(op.finish(op.add(x, x)).offsets).toEqual([0, 0]);
  });
});

describe("shapes that do not fit are refused where they are recorded", () => {
  const op = new Recorder(4, 2);
  const x = op.embed(op.weight("embedding", "matrix", "f32", 10, 64));
  const narrow = op.embed(op.weight("narrow", "matrix", "f32", 10, 32));
  const picks = op.route(op.matmul(x, op.weight("router", "matrix", "f32", 6, 64)), {
    k: 2,
    normalise: true,
  });
  const cache = op.cache({
    layer: 0,
    codec: kvCodec("int4"),
    kvHeads: 2,
    headDim: 16,
    pool: op.pool(null, 1),
  });
  it.each([
    ["matmul", () => op.matmul(narrow, op.weight("square", "matrix", "f32", 64, 64))],
    [
      "bias",
      () =>
        op.matmul(
          x,
          op.weight("square", "matrix", "f32", 64, 64),
          op.weight("short", "vector", "f32", 1, 63),
        ),
    ],
    ["rmsNorm", () => op.rmsNorm(x, op.weight("norm", "vector", "f32", 1, 32), 1e-6)],
    ["add", () => op.add(x, narrow)],
    ["add of other rows", () => op.add(x, op.takeOutputs(x))],
    ["gate", () => op.gate(x, narrow, "silu")],
    ["gate without its limit", () => op.gate(x, x, "swigluOai")],
    ["gate with a limit that it does not have", () => op.gate(x, x, "silu", 7)],
    ["slice", () => op.slice(x, { groups: 2, from: 20, size: 13 })],
    ["slice of groups", () => op.slice(x, { groups: 3, from: 0, size: 1 })],
    ["route", () => op.route(x, { k: 65, normalise: true })],
    ["experts", () => op.expertMatmul(x, picks, op.weight("six", "matrix", "f32", 63, 64), { experts: 6 })],
    [
      "columns of experts",
      () => op.expertMatmul(narrow, picks, op.weight("w6", "matrix", "f32", 6, 64), { experts: 6 }),
    ],
    [
      "sinks",
      () => op.attend(cache, narrow, { heads: 2, scale: 1, sinks: op.weight("s", "vector", "f32", 1, 3) }),
    ],
    ["appendKv keys", () => op.appendKv(cache, x, narrow)],
    ["appendKv values", () => op.appendKv(cache, narrow, x)],
    ["attend", () => op.attend(cache, narrow, { heads: 3, scale: 1 })],
  ])("%s", (_, record) => {
    expect(record).toThrow(ArgumentError);
  });
});
