/** A constraint that begins when the model has thought to its end: the prompt has opened its reasoning. */
import type { Tokenizer } from "../../index.ts";
import type { Section } from "../thinking.ts";
import type { OpenGrammar } from "./grammars.ts";

export function afterThinking(grammar: OpenGrammar, section: Section, tokenizer: Tokenizer): OpenGrammar {
  const stream = tokenizer.stream({ special: true });
  let tail = "";
  let isThinking = true;
  return {
    allowed: () => (isThinking ? null : grammar.allowed()),
    accept(id) {
      if (!isThinking) return grammar.accept(id);
      tail += stream.push(id);
      isThinking = !tail.includes(section.close);
      tail = tail.slice(-section.close.length);
    },
    close: () => grammar.close(),
  };
}
