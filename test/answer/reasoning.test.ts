/** Reasoning marks in a streamed answer: any cut of the text gives the same parts, and only marks that open an answer count. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openedSection } from "../../src/answer/part-streams.ts";
import { ReasoningStream, SECTIONS, type Section, type StreamedPart } from "../../src/answer/reasoning.ts";

/** Neighbours of one kind joined: what a reader of the stream has at the end. */
function joined(parts: readonly StreamedPart[]): StreamedPart[] {
  const out: StreamedPart[] = [];
  for (const part of parts) {
    const last = out.at(-1);
    if (last?.kind === part.kind) out[out.length - 1] = { kind: part.kind, text: last.text + part.text };
    else out.push(part);
  }
  return out;
}

function parts(pieces: readonly string[], inside: Section | null = null): StreamedPart[] {
  const stream = new ReasoningStream(inside);
  return joined([...pieces.flatMap((piece) => stream.push(piece)), ...stream.end()]);
}

const thought = (text: string): StreamedPart => ({ kind: "reasoning", text });
const said = (text: string): StreamedPart => ({ kind: "text", text });

describe("an answer's parts", () => {
  const cases: [what: string, text: string, expected: StreamedPart[]][] = [
    ["no marks", "Hello <b>there</b>.", [said("Hello <b>there</b>.")]],
    ["Qwen 3", "<think>\nHm.\n</think>\n\nYes.", [thought("Hm.\n"), said("Yes.")]],
    ["nothing thought", "<think>\n\n</think>\n\nYes.", [said("Yes.")]],
    ["newlines in front", "\n<think>a</think>b", [thought("a"), said("b")]],
    ["two sections", "<think>a</think>\n<think>b</think>c", [thought("ab"), said("c")]],
    ["cut off while thinking", "<think>a b", [thought("a b")]],
    ["cut off inside the closing mark", "<think>a</thi", [thought("a</thi")]],
    ["an unfinished opening mark", "<thin", [said("<thin")]],
    ["marks in prose", "Use <think>x</think> tags.", [said("Use <think>x</think> tags.")]],
    ["other marks inside", "<think>[THINK]<channel|></think>b", [thought("[THINK]<channel|>"), said("b")]],
    ["Magistral", "[THINK]a[/THINK]b", [thought("a"), said("b")]],
    ["Gemma 4", "<|channel>thought\nHm.<channel|>Yes.", [thought("Hm."), said("Yes.")]],
    ["Gemma 4, empty", "<|channel>thought\n<channel|>Yes.", [said("Yes.")]],
    [
      "Gemma 4, later",
      "One.<|channel>thought\nHm.<channel|>Two.",
      [said("One."), thought("Hm."), said("Two.")],
    ],
    ["indented code", "    x = 1", [said("    x = 1")]],
  ];
  it.each(cases)("%s", (_what, text, expected) => {
    expect(parts([text])).toEqual(expected);
    expect(parts([...text])).toEqual(expected);
  });

  it("from a prompt that has opened the section", () => {
    expect(parts(["Hm.", "</th", "ink>\n\nYes."], SECTIONS[0])).toEqual([thought("Hm."), said("Yes.")]);
  });
});

describe("properties", () => {
  const atoms = [...SECTIONS.flatMap(({ open, close, label = "" }) => [open, close, open + label, close])];
  const text = fc
    .array(
      fc.oneof(fc.constantFrom(...atoms, "\n", " ", "a", "<", "[", "<|", "|>"), fc.string({ maxLength: 4 })),
      {
        maxLength: 12,
      },
    )
    .map((pieces) => pieces.join(""));
  const inside = fc.constantFrom(null, ...SECTIONS);

  it("any cut of the text gives the same parts", () => {
    fc.assert(
      fc.property(text, fc.array(fc.nat(60)), inside, (all, cuts, section) => {
        const places = [...new Set([0, ...cuts.filter((cut) => cut < all.length), all.length])].sort(
          (a, b) => a - b,
        );
        const pieces = places.slice(1).map((end, i) => all.slice(places[i], end));
        expect(parts(pieces, section)).toEqual(parts([all], section));
      }),
      { numRuns: 2000 },
    );
  });

  it("no text is lost or added but marks, labels and a part's first newlines", () => {
    fc.assert(
      fc.property(text, inside, (all, section) => {
        let rest = all;
        for (const part of parts([all], section)) {
          const at = rest.indexOf(part.text[0]);
          expect(at).toBeGreaterThanOrEqual(0);
          for (const char of part.text) {
            const next = rest.indexOf(char);
            expect(next).toBeGreaterThanOrEqual(0);
            rest = rest.slice(next + 1);
          }
        }
      }),
    );
  });

  it("text without marks streams through at once", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z ]{1,40}$/), (all) => {
        expect(new ReasoningStream().push(all)).toEqual([said(all)]);
      }),
    );
  });
});

describe("the generation prompt", () => {
  it.each<[string, string | null]>([
    ["<|im_start|>assistant\n", null],
    ["<|im_start|>assistant\n<think>\n\n</think>\n\n", null],
    ["<｜Assistant｜><think>\n", "<think>"],
    ["<|turn>model\n<|channel>thought\n<channel|>", null],
    ["<|turn>model\n<|channel>thought\n", "<|channel>"],
  ])("%j", (prompt, open) => {
    expect(openedSection(prompt)?.open ?? null).toBe(open);
  });
});
