/** Unrolled code of kernels: what `// each` blocks become, and what is wrong with one. */
import { describe, expect, it } from "vitest";
import { expandEach } from "../../../scripts/wgsl-each.js";

const lines = (...all: string[]) => all.join("\n");

describe("each", () => {
  it("copies a block for each value, sums worked out and + 0 left out", () => {
    const text = lines(
      "  // each G 0..1",
      "  key{G} = at(lane + {32 * G}u, {2 * G + 1}u);",
      "  // end",
      "done",
    );
    expect(expandEach("k", text)).toBe(
      lines("  key0 = at(lane, 1u);", "  key1 = at(lane + 32u, 3u);", "done"),
    );
  });

  it("puts copies after the first under their condition", () => {
    const text = lines("  // each G 0..1 if GROUPS > G", "  a{G}();", "  // end");
    expect(expandEach("k", text)).toBe(lines("  a0();", "  if (GROUPS > 1u) {", "    a1();", "  }"));
  });

  it("has blocks in blocks, whose letters meet in one expression", () => {
    const text = lines("// each G 0..1", "// each H 0..1", "q{2 * G + H}", "// end", "// end");
    expect(expandEach("k", text)).toBe(lines("q0", "q1", "q2", "q3"));
  });

  it("leaves what is only for some values out of the other copies", () => {
    const text = lines("// each G 0..2", "// only G 1..2", "wait();", "// end", "a{G}();", "// end");
    expect(expandEach("k", text)).toBe(lines("a0();", "wait();", "a1();", "wait();", "a2();"));
    expect(() => expandEach("k", lines("// only G 0..0", "// end"))).toThrow(/k\.wgsl:1: .* outside/);
  });

  it("names the line of a block that is not whole", () => {
    expect(() => expandEach("k", lines("a", "// each G 0..1", "b"))).toThrow(/k\.wgsl:2: no "\/\/ end"/);
    expect(() => expandEach("k", lines("a", "// end"))).toThrow(/k\.wgsl:2/);
  });
});
