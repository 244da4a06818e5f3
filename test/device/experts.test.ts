/** The reference of a mixture's operations, against numbers worked out by hand. */
import { expect, it } from "vitest";
import { combine, expertMatmul, route } from "../../src/device/reference/experts.ts";
import { attend, gate, slice } from "../../src/device/reference/ops.ts";

const { log } = Math;

it("route takes the largest of the softmax, ties by the lowest id", () => {
  const logits = Float32Array.of(log(1), log(4), log(3), log(2), 0, 1, 1, 1);
  const picks = new Float32Array(8);
  route(logits, 4, 2, false, null, picks);
  expect([...picks.subarray(0, 2)]).toEqual([1, 2]);
  expect(picks[2]).toBeCloseTo(0.4);
  expect(picks[3]).toBeCloseTo(0.3);
  expect([...picks.subarray(4, 6)]).toEqual([1, 2]);
  route(logits, 4, 2, true, Float32Array.of(1, 7, 14, 1), picks);
  expect(picks[2]).toBeCloseTo(4);
  expect(picks[3]).toBeCloseTo(6);
});

it("route names experts that there are where logits are no numbers", () => {
  const picks = new Float32Array(4);
  route(Float32Array.of(Number.NaN, 1, 2), 3, 2, true, null, picks);
  expect([...picks.subarray(0, 2)].every((id) => [0, 1, 2].includes(id))).toBe(true);
  expect([...picks.subarray(2)]).toEqual([Number.NaN, Number.NaN]);
});

it("expertMatmul reads one vector for all picks, or a pick's own; combine adds them by weight", () => {
  // Expert e multiplies by e + 1 and adds 10 e.
  const matrices = { weight: Float32Array.of(1, 2, 3), bias: Float32Array.of(0, 10, 20), rows: 1, cols: 1 };
  const picks = Float32Array.of(2, 0, 0.25, 0.5);
  const out = new Float32Array(2);
  expertMatmul(Float32Array.of(5), picks, 2, matrices, out);
  expect([...out]).toEqual([35, 5]);
  expertMatmul(Float32Array.of(5, 7), picks, 2, matrices, out);
  expect([...out]).toEqual([35, 7]);
  const sum = new Float32Array(1);
  combine(out, picks, 2, sum);
  expect(sum[0]).toBe(0.25 * 35 + 0.5 * 7);
});

it("a sink takes its share of the softmax", () => {
  const read = (value: number) => (_head: number, _position: number, into: Float32Array) => {
    into.fill(value);
  };
  const shape = {
    tokens: 1,
    position: 1,
    heads: 1,
    kvHeads: 1,
    headDim: 1,
    window: null,
    scale: 1,
    softcap: 0,
  };
  const out = new Float32Array(1);
  // Two scores of 0 and a sink of log 2: half of the weight has no value.
  attend(Float32Array.of(0), read(1), read(8), { ...shape, sinks: Float32Array.of(log(2)) }, out);
  expect(out[0]).toBeCloseTo(4);
});

it("a gate acts on the columns that follow one another; slices are of each group", () => {
  const out = new Float32Array(4);
  gate(Float32Array.of(0, log(3)), Float32Array.of(1, 2, 4, 8), "sigmoid", 0, out);
  [0.5, 1, 3, 6].forEach((value, i) => {
    expect(out[i]).toBeCloseTo(value);
  });
  // gpt-oss: g 9 is clamped to 7, u -9 to -7.
  const one = new Float32Array(1);
  gate(Float32Array.of(9), Float32Array.of(-9), "swigluOai", 7, one);
  expect(one[0]).toBeCloseTo((7 / (1 + Math.exp(-1.702 * 7))) * -6, 5);
  const parts = new Float32Array(2);
  slice(Float32Array.of(1, 2, 3, 4, 5, 6), 3, 1, 1, parts);
  expect([...parts]).toEqual([2, 5]);
});
