/**
 * A language model for tests of the API: tokenizer, template and generation loop are real, over needle's vocabulary;
 * it says the same few words again and again.
 */
import { generateTokens } from "../../src/engine/generate.ts";
import { Text } from "../../src/engine/text.ts";
import { chatTemplateFromGguf } from "../../src/format/template.ts";
import { encodeChat, encodePrompt } from "../../src/format/template-prompt.ts";
import { ContextError, Generation, type LanguageModel } from "../../src/index.ts";
import { scripted } from "../engine/scripted.ts";
import { goldenMetadata, goldenTokenizer } from "../format/tokenizer-vocabularies.ts";

const CONTEXT = 200;

export async function scriptedModel(): Promise<LanguageModel> {
  const tokenizer = await goldenTokenizer("needle");
  const template = chatTemplateFromGguf(await goldenMetadata("needle"))!;
  const said = tokenizer.encode("The door is open. ");
  const options = { vocab: tokenizer.vocab, context: CONTEXT, chooses: true, guess: 15 };
  const { scheduler } = scripted((position) => said[position % said.length], options);
  // biome-ignore lint/suspicious/noExplicitAny: of any of the kinds of a Prompt
  const encode = (prompt: any, { raw, template: variables }: { raw?: boolean; template?: object } = {}) =>
    typeof prompt === "object" && "ids" in prompt
      ? prompt.ids
      : raw
        ? encodePrompt(tokenizer, prompt)
        : encodeChat(tokenizer, template, prompt, { ...variables });
  return {
    tokenizer,
    chatTemplate: template,
    config: { vocab: tokenizer.vocab },
    plan: {
      ...{ context: CONTEXT, cacheBytes: 1, cacheTokens: CONTEXT, parallel: 1, kv: "int4" },
      graph: { caches: [], pools: [] },
    },
    activity: { running: 0, waiting: 0 },
    cache: scheduler.cache,
    encode,
    encodeInSlices: async (...asked: Parameters<typeof encode>) => encode(...asked),
    begin: async (conversation: number[], text: string) => [...conversation, ...tokenizer.encode(text)],
    generateFrom: (ids: number[], more: object) => {
      if (ids.length > CONTEXT) throw new ContextError(ids.length, CONTEXT);
      return new Generation(generateTokens(new Text(scheduler), tokenizer, ids, more));
    },
  } as unknown as LanguageModel;
}
