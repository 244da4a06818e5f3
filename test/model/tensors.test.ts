/** Views of tensors: rows regrouped, joined and turned, in any pieces, in the type that they have. */
import { describe, expect, it } from "vitest";
import { FormatError, UnsupportedError } from "../../src/format/errors.ts";
import type { Tensor } from "../../src/format/tensor.ts";
import { f32Rows, joinRows, regroupRows, regroupValues, transposeEach } from "../../src/model/tensors.ts";
import { randomTensor } from "../device/random-tensor.ts";

/** Rows as lists of numbers, read in pieces. */
async function rowsOf(tensor: Tensor, piece: number): Promise<number[][]> {
  const rows: number[][] = [];
  for (let first = 0; first < tensor.rows; first += piece) {
    const count = Math.min(piece, tensor.rows - first);
    const values = await f32Rows(tensor, first, count);
    for (let r = 0; r < count; r++) rows.push([...values.subarray(r * tensor.cols, (r + 1) * tensor.cols)]);
  }
  return rows;
}

describe.each([1, 3, 100])("read in pieces of %i rows", (piece) => {
  it("every second row of each group, and the halves of each", async () => {
    const tensor = randomTensor("w", "q8_0", 12, 32);
    const all = await rowsOf(tensor, 12);
    const pick = (...rows: number[]) => rows.map((row) => all[row]);
    const odd = regroupRows(tensor, { group: 6, from: 1, step: 2, count: 3 }, "odd");
    expect(odd).toMatchObject({ name: "w: odd", type: "q8_0", rows: 6, cols: 32 });
    expect(await rowsOf(odd, piece)).toEqual(pick(1, 3, 5, 7, 9, 11));
    const half = regroupRows(tensor, { group: 4, from: 2, count: 2 }, "half");
    expect(await rowsOf(half, piece)).toEqual(pick(2, 3, 6, 7, 10, 11));
  });

  it("matrices under one another", async () => {
    const tensors = [1, 2, 3].map((seed) => randomTensor(`w${seed}`, "q4_0", 2, 64, seed));
    const joined = joinRows(tensors, "w*");
    expect(joined).toMatchObject({ name: "w*", type: "q4_0", rows: 6, cols: 64 });
    const each = await Promise.all(tensors.map((tensor) => rowsOf(tensor, 2)));
    expect(await rowsOf(joined, piece)).toEqual(each.flat());
  });

  it.each(["f32", "bf16"] as const)("matrices turned, in %s", async (type) => {
    const tensor = randomTensor("w", type, 2 * 3, 5);
    const all = await rowsOf(tensor, 6);
    const turned = transposeEach(tensor, 3, "turned");
    expect(turned).toMatchObject({ type, rows: 10, cols: 3 });
    const wanted = [0, 1].flatMap((m) =>
      [0, 1, 2, 3, 4].map((col) => [0, 1, 2].map((row) => all[3 * m + row][col])),
    );
    expect(await rowsOf(turned, piece)).toEqual(wanted);
  });
});

it("values of vectors, also where there is one for each expert", async () => {
  const tensor = randomTensor("b", "f32", 2, 6);
  const [first, second] = await rowsOf(tensor, 2);
  const values = regroupValues(tensor, { group: 6, from: 1, step: 2, count: 3 }, "odd");
  const odd = [first, second].flatMap((row) => [row[1], row[3], row[5]]);
  expect(await rowsOf(values, 1)).toEqual([odd]);
});

it("refuses to join unlike matrices, and to turn blocks", () => {
  const like = randomTensor("a", "q4_0", 2, 64);
  expect(() => joinRows([like, randomTensor("b", "q8_0", 2, 64)], "w")).toThrow(FormatError);
  expect(() => joinRows([like, randomTensor("b", "q4_0", 3, 64)], "w")).toThrow("b: q4_0 3 x 64");
  expect(() => transposeEach(like, 2, "turned")).toThrow(UnsupportedError);
});
