/** Identities: one form, one hash, for equal things; and what is not a spec is refused by name. */
import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/format/errors.ts";
import { Snapshot } from "../../src/lab/snapshot.ts";
import { canonical, distance, experimentId, identified, normalSpec, specId } from "../../src/lab/spec.ts";
import type { ResultEntry } from "../../src/lab/types.ts";

describe("canonical", () => {
  it("orders keys, drops blanks and the sign of zero, whatever order they came in", () => {
    expect(canonical({ b: [1, -0, "x y"], a: { d: null, c: true } })).toBe(
      '{"a":{"c":true,"d":null},"b":[1,0,"x y"]}',
    );
    expect(() => canonical({ a: Number.NaN })).toThrow(ArgumentError);
    expect(() => canonical({ a: undefined } as never)).toThrow("what JSON can say");
  });
});

describe("normalSpec", () => {
  const int4 = { method: "int4", bits: 4, group: 32 };

  it("gives one identity to what is one thing", () => {
    expect(specId(normalSpec({ keys: int4 }))).toBe(
      specId(
        normalSpec({ values: { method: "f16", bits: 3, rotate: true }, keys: { ...int4, mean: false } }),
      ),
    );
    // Nothing is quantized: neither sinks nor layers matter.
    expect(normalSpec({ sinks: 4, layers: [0, 2], keyScale: 8 })).toEqual(normalSpec({}));
    expect(specId(normalSpec({ keys: int4, sinks: 4 }))).not.toBe(specId(normalSpec({ keys: int4 })));
  });

  it("refuses what is not a spec, and says what would be", () => {
    expect(() => normalSpec({ keys: { method: "int4", bits: 0 } })).toThrow("bits of keys is 0");
    expect(() => normalSpec({ recent: 40 })).toThrow("recent is 40; allowed: multiples of 32");
    expect(() => normalSpec({ values: { ...int4, mean: true } })).toThrow("mean of values");
    expect(() => normalSpec({ rotation: true } as never)).toThrow("a field of a spec is rotation");
    expect(() => normalSpec({ keys: { method: "../x" } })).toThrow("method of keys");
  });
});

it("experiments differ by each of their six fields", () => {
  const one = { spec: "a", model: "b", text: "c", rung: 32, draw: 0, harness: 1 };
  const others = [{ spec: "x" }, { model: "x" }, { text: "x" }, { rung: 64 }, { draw: 1 }, { harness: 2 }];
  expect(new Set([one, ...others.map((other) => ({ ...one, ...other }))].map(experimentId)).size).toBe(7);
});

it("distance: none to itself, more for another method than for another group, at most 1", () => {
  const spec = normalSpec({
    keys: { method: "int4", group: 32 },
    values: { method: "int4", group: 32 },
  });
  const group = { ...spec, keys: { ...spec.keys, group: 64 } };
  const method = { ...spec, keys: { ...spec.keys, method: "rq4" } };
  expect(distance(spec, spec)).toBe(0);
  expect(distance(spec, group)).toBeLessThan(distance(spec, method));
  expect(distance(spec, method)).toBe(distance(method, spec));
  expect(distance(spec, normalSpec({ recent: 4096, temperature: 2, layers: null }))).toBeLessThanOrEqual(1);
});

describe("Snapshot", () => {
  const result = (klMean: number, digest: string): ResultEntry =>
    identified({
      ...({ kind: "result", experiment: "e", klMean, klError: 0, kl999: 0, sameTop: 1, ms: 1 } as const),
      ...{ losses: "", tops: "", digest, worker: "w", env: {}, at: digest },
    });

  it("takes an entry once; a second answer is a replicate, and one that differs a dispute", () => {
    const known = new Snapshot();
    expect(known.state("e")).toBe("waiting");
    expect(
      [result(0.1, "a"), result(0.1, "a"), result(0.1005, "b")].map((entry) => known.add(entry)),
    ).toEqual([true, false, true]);
    expect(known.state("e")).toBe("done");
    known.add(result(0.2, "c"));
    expect(known.state("e")).toBe("disputed");
    expect([known.results.get("e")!.digest, known.replicates.get("e")!.length]).toEqual(["a", 2]);
  });
});
