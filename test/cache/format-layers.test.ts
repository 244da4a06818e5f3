/** Formats that differ by layer: which layer gets which, and what is no choice. */
import { describe, expect, it } from "vitest";
import { layerFormats } from "../../src/cache/format-layers.ts";

const namesOf = (text: string, sliding: readonly number[] = []) => {
  const formats = layerFormats(text);
  const layer = (index: number) => ({ index, count: 6, isSliding: sliding.includes(index) });
  return Array.from({ length: 6 }, (_, index) => formats.of(layer(index)).name).join(" ");
};

describe("formats by layer", () => {
  it.each([
    ["int4", "int4 int4 int4 int4 int4 int4"],
    ["int4+f16@0", "f16 int4 int4 int4 int4 int4"],
    ["rq4+f16@first+int4@last", "f16 rq4 rq4 rq4 rq4 int4"],
    ["kv4+f16@1-3+int4@2", "kv4 f16 int4 f16 kv4 kv4"],
    ["int4+f16@even+rq4@odd", "f16 rq4 f16 rq4 f16 rq4"],
    ["kv4+f16@sliding", "kv4 f16 kv4 f16 kv4 kv4"],
    ["kv3", Array(3).fill("k4c-v3r-n128-f32 k3c-v3r-n128-f32").join(" ")],
    ["kv3+f16@first", `f16 k3c-v3r-n128-f32 ${Array(2).fill("k4c-v3r-n128-f32 k3c-v3r-n128-f32").join(" ")}`],
    ["kv4+k4c-v4r-n64@full", "k4c-v4r-n64 kv4 k4c-v4r-n64 kv4 k4c-v4r-n64 k4c-v4r-n64"],
    ["kv4+f16@9-12", "kv4 kv4 kv4 kv4 kv4 kv4"],
    ["rq4+apart+f16@0", "f16 rq4 rq4 rq4 rq4 rq4"],
  ])("%s", (text, wanted) => expect(namesOf(text, [1, 3])).toBe(wanted));

  it("keys and values are held apart where that is said", () => {
    expect(["kv3", "kv3+apart", "int4+f16@0+apart"].map((text) => layerFormats(text).apart)).toEqual([
      false,
      true,
      true,
    ]);
  });

  it.each([
    ["int4+kv3@0", /KV cache format is "kv3"/],
    ["", /KV cache format is ""/],
    ["int4+f16", /exception of a KV cache format is "f16"; allowed: such as "f16@0-3"/],
    ["int4+f16@0@1", /exception of a KV cache format/],
    ["int4+q9@0", /KV cache format is "q9"/],
    ["int4+f16@", /layers of a KV cache format is ""; allowed: a number/],
    ["int4+f16@-1", /layers of a KV cache format/],
    ["int4+f16@toString", /layers of a KV cache format/],
    ["int4+f16@1.5", /layers of a KV cache format/],
  ])("%j is none", (text, message) => expect(() => layerFormats(text)).toThrow(message));
});
