/** How an answer is taken apart: chosen by what the prompt that was rendered ends with. */
import type { ChatTemplate, RenderOptions } from "../format/template.ts";
import { HARMONY, HARMONY_MARKS, HarmonyStream } from "./harmony.ts";
import { type PartStream, SECTIONS, type Section, type ThinkingPart, ThinkingStream } from "./thinking.ts";

/** Some vocabularies have them as control tokens, which a text leaves out unless it is told of them. */
export const MARKS: readonly string[] = [
  ...SECTIONS.flatMap(({ open, close }) => [open, close]),
  ...HARMONY_MARKS,
];

/**
 * What a generation prompt has opened already: a section, as DeepSeek R1's template does, or HARMONY, where channels
 * follow; null: nothing.
 */
export function openedSection(prompt: string): Section | null {
  const end = prompt.trimEnd();
  const opens = ({ open, label = "" }: Section) => end.endsWith(open) || end.endsWith(open + label.trimEnd());
  return [HARMONY, ...SECTIONS].find(opens) ?? null;
}

/** The same of a template's generation prompt, where nothing more is known of it. */
export function openedBy(template: ChatTemplate, variables: RenderOptions = {}): Section | null {
  const probe = [{ role: "user", content: "question" }];
  return openedSection(template.render(probe, { ...variables, addGenerationPrompt: true }));
}

/** Of an answer only what the model says, without its reasoning; text: all of that so far. */
export function spoken(opened: Section | null) {
  const stream = partStream(opened);
  const words = (parts: readonly ThinkingPart[]) => {
    const found = parts.filter(({ kind }) => kind === "answer").map(({ text }) => text);
    said.text += found.join("");
    return found.join("");
  };
  const said = {
    text: "",
    push: (text: string) => words(stream.push(text)),
    end: () => words(stream.end()),
  };
  return said;
}

/** opened: what `openedSection` has found; "begun": the prompt ends inside of the answer. */
export function partStream(opened: Section | "begun" | null): PartStream {
  // By its text: the page's worker sends a copy.
  const isHarmony = opened !== "begun" && opened?.open === HARMONY.open;
  return isHarmony ? new HarmonyStream() : new ThinkingStream(opened);
}
