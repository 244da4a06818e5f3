/** Harmony (gpt-oss): channels of a streamed answer, in any cut; what may come after the reasoning; which token ends what. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CALL_BEGIN, CALL_END, HARMONY, HarmonyStream } from "../../src/answer/harmony.ts";
import { openedBy, openedSection, partStream } from "../../src/answer/part-streams.ts";
import { AnswerParts } from "../../src/answer/parts.ts";
import type { StreamedPart } from "../../src/answer/reasoning.ts";
import { chatTemplateFromConfig } from "../../src/format/template.ts";
import { endingIds } from "../../src/format/tokenizer-control.ts";

function parts(pieces: readonly string[]): Record<StreamedPart["kind"], string> {
  const stream = new HarmonyStream();
  const said = { reasoning: "", text: "" };
  for (const { kind, text } of [...pieces.flatMap((piece) => stream.push(piece)), ...stream.end()]) {
    expect(text).not.toBe("");
    said[kind] += text;
  }
  return said;
}

const call = (name: string, json: string) => `${CALL_BEGIN}${name}<|message|>${json}${CALL_END}`;
const FINAL = "<|channel|>final<|message|>";
const ANALYSIS = "<|channel|>analysis<|message|>";

describe("an answer's channels", () => {
  it.each<[what: string, answer: string, reasoning: string, text: string]>([
    ["final alone", `${FINAL}Yes.`, "", "Yes."],
    ["analysis, then final", `${ANALYSIS}Hm.<|end|><|start|>assistant${FINAL}Yes.<|return|>`, "Hm.", "Yes."],
    ["no end between", `${ANALYSIS}Hm.<|start|>assistant${FINAL}Yes.`, "Hm.", "Yes."],
    ["cut off while thinking", `${ANALYSIS}Hm`, "Hm", ""],
    ["cut off in a header", `${ANALYSIS}Hm.<|end|><|start|>assis`, "Hm.", ""],
    ["cut off in a mark", `${FINAL}Yes.<|en`, "", "Yes.<|en"],
    [
      "a preamble",
      `<|channel|>commentary<|message|>I look.<|end|><|start|>assistant${FINAL} Yes.`,
      "",
      "I look. Yes.",
    ],
    ["no channel", "<|message|>Yes.", "", "Yes."],
    ["no Harmony", "Yes, <b>so</b>.", "", "Yes, <b>so</b>."],
    ["blanks and lines", `${FINAL}\n  x = 1\n`, "", "\n  x = 1\n"],
    [
      "a call, whose end token is no text",
      `${ANALYSIS}Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a":1}`,
      "Hm.",
      call("f", '{"a":1}'),
    ],
    [
      "a call as the template writes it",
      ' to=functions.f<|channel|>commentary json<|message|>{"a":1}<|call|>',
      "",
      call("f", '{"a":1}'),
    ],
    [
      "a tool that is not a function",
      `${ANALYSIS.replace("<|message|>", " to=python<|message|>")}1+1`,
      "1+1",
      "",
    ],
  ])("%s", (_what, answer, reasoning, text) => {
    expect(parts([answer])).toEqual({ reasoning, text });
    expect(parts([...answer])).toEqual({ reasoning, text });
  });

  it("do not depend on how the text was cut", () => {
    const atoms = [
      "<|start|>",
      "assistant",
      "<|channel|>",
      "analysis",
      "final",
      "<|message|>",
      "<|end|>",
      "a",
    ];
    const text = fc
      .array(fc.constantFrom(...atoms, " to=functions.f", "<|call|>", "<|", "\n"))
      .map((all) => all.join(""));
    fc.assert(
      fc.property(text, fc.array(fc.nat({ max: 60 })), (whole, cuts) => {
        const at = [0, ...cuts.filter((cut) => cut < whole.length).sort((a, b) => a - b), whole.length];
        const pieces = at.slice(1).map((end, i) => whole.slice(at[i], end));
        expect(parts(pieces)).toEqual(parts([whole]));
      }),
    );
  });
});

it("the published template opens them, and shows a call's reasoning", () => {
  const jinja = readFileSync(
    new URL("../golden/templates/openai-gpt-oss-20b.jinja", import.meta.url),
    "utf8",
  );
  const template = chatTemplateFromConfig({}, jinja)!;
  const user = { role: "user", content: "question" };
  const called = {
    role: "assistant",
    content: "",
    thinking: "Hm.",
    tool_calls: [{ type: "function", function: { name: "f", arguments: { a: 1 } } }],
  };
  const prompt = template.render([user, called, { role: "tool", content: "2" }], {
    addGenerationPrompt: true,
  });
  expect(prompt).toContain(
    '<|start|>assistant<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant to=functions.f<|channel|>commentary json<|message|>{"a": 1}<|call|><|start|>functions.f to=assistant<|channel|>commentary<|message|>"2"<|end|><|start|>assistant',
  );
  expect(openedSection(prompt)).toBe(HARMONY);
  expect(openedBy(template)).toBe(HARMONY);
  expect(partStream(HARMONY)).toBeInstanceOf(HarmonyStream);
});

it("the answer is the text of the final channel", () => {
  const parts = new AnswerParts(HARMONY, null);
  const text = `${ANALYSIS}Hm.<|end|><|start|>assistant${FINAL}Yes<`;
  expect([...parts.push(text), ...parts.end()]).toEqual([
    { kind: "reasoning", text: "Hm." },
    { kind: "text", text: "Yes" },
    { kind: "text", text: "<" },
  ]);
});

it("<|end|> ends a message there, and an answer elsewhere", () => {
  const tokens = ["<|return|>", "<|call|>", "<|end|>"].map((text, id) => ({ id, text }));
  expect(endingIds(tokens)).toEqual([0, 1]);
  expect(endingIds(tokens.slice(1))).toEqual([1, 2]);
});
