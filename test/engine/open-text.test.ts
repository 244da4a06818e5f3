/** What a caller adds to a text, and that it costs what is added. */
import { describe, expect, it } from "vitest";
import { OpenText } from "../../src/engine/open-text.ts";
import { piecesTokenizer, scripted } from "./scripted.ts";

function open(ids: readonly number[] = []) {
  const { text } = scripted(() => 1, { vocab: 4 });
  const save = () => {
    throw new Error("not asked for");
  };
  return new OpenText({ text, tokenizer: piecesTokenizer(["a", "b", "c"]), begin: () => [1], save }, ids);
}

describe("an open text", () => {
  it("gives its ids as they were when they were asked for", () => {
    const given = [1, 2];
    const text = open(given);
    const before = text.ids;
    text.append({ ids: [3] });
    const other = text.fork().append({ ids: [1] });
    text.rewind(1);
    expect([given, before, text.ids, other.ids]).toEqual([[1, 2], [1, 2], [1], [1, 2, 3, 1]]);
    expect(text.ids).toBe(text.ids);
  });

  it("takes a token at a time without copying what it has", () => {
    const text = open();
    // Some 50 ms; copies of all of it each time were 10^11 ids, minutes.
    for (let i = 0; i < 500_000; i++) text.append({ ids: [i & 3] });
    expect(text.append({ ids: Array.from({ length: 200_000 }, () => 2) }).ids.length).toBe(700_000);
  });
});
