/**
 * Attention of few rows that compiles fast: eleven heads of one group of dims, over three blocks of which a window leaves the last,
 * with a soft cap.
 */
import { type DeviceCase, ordinaryCases } from "../device-cases.ts";

/** Few rows at a time, which all attend alone; the last step has `last`. */
export const fewRows = (count: number, last: number) => [...new Array<number>(count).fill(5), last];

export function smallAttend(codec: "int4" | "rq4"): DeviceCase {
  return {
    ...ordinaryCases.find(({ name }) => name.includes(`attend ${codec}`))!,
    steps: fewRows(13, 2),
    build: (op, given) => {
      const cache = given.cache({ codec, kvHeads: 1, headDim: 32, window: 40 });
      op.appendKv(cache, given.input(32, 2), given.input(32, 3));
      return op.attend(cache, given.input(11 * 32, 1), { heads: 11, scale: 1, softcap: 5 });
    },
  };
}
