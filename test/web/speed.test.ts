import { expect, it } from "vitest";
import { answerSpeed } from "../../web/models/model.ts";

it("an answer has a speed where its pieces came one after another", () => {
  expect(answerSpeed({ generatedTokens: 7, generateMs: 150 })).toBe(40);
  expect(answerSpeed({ generatedTokens: 7, generateMs: 6 })).toBe(null);
  expect(answerSpeed({ generatedTokens: 1, generateMs: 150 })).toBe(null);
});
