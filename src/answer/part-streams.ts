/** How an answer is taken apart: chosen by the end of the rendered prompt. */
import type { ChatTemplate, RenderOptions } from "../format/template.ts";
import { HARMONY, HARMONY_MARKS, HarmonyStream } from "./harmony.ts";
import { type PartStream, ReasoningStream, SECTIONS, type Section } from "./reasoning.ts";

/** Control tokens in some vocabularies, which decoded text includes only on request. */
export const MARKS: readonly string[] = [
  ...SECTIONS.flatMap(({ open, close }) => [open, close]),
  ...HARMONY_MARKS,
];

/**
 * What a generation prompt has opened: a section, as DeepSeek R1's template does, or HARMONY, where channels
 * follow; null: nothing.
 */
export function openedSection(prompt: string): Section | null {
  const end = prompt.trimEnd();
  const opens = ({ open, label = "" }: Section) => end.endsWith(open) || end.endsWith(open + label.trimEnd());
  return [HARMONY, ...SECTIONS].find(opens) ?? null;
}

/** The same for a template's generation prompt, where nothing else is known. */
export function openedBy(template: ChatTemplate, variables: RenderOptions = {}): Section | null {
  const probe = [{ role: "user", content: "question" }];
  return openedSection(template.render(probe, { ...variables, addGenerationPrompt: true }));
}

/** opened: what `openedSection` has found; "begun": the prompt ends inside of the answer. */
export function partStream(opened: Section | "begun" | null): PartStream {
  // Compared by its text, since the page's worker sends a copy.
  const isHarmony = opened !== "begun" && opened?.open === HARMONY.open;
  return isHarmony ? new HarmonyStream() : new ReasoningStream(opened);
}
