/**
 * A whole language model that says what a test wants, over a published vocabulary and template: tokenizer, template,
 * generation loop and grammars are real. What a grammar rules out it cannot say.
 */

import { readFileSync } from "node:fs";
import { LanguageModel } from "../../src/answer/model.ts";
import { type ChatTemplate, chatTemplateFromConfig } from "../../src/format/template.ts";
import { scripted } from "../engine/scripted.ts";
import { goldenTokenizer, needleWith, type VocabularyName } from "../format/tokenizer-vocabularies.ts";

const CONTEXT = 2000;

export interface Talking {
  readonly model: LanguageModel;
  /** The answers in turn, with control tokens written out; the last one again and again. */
  says(...answers: readonly string[]): LanguageModel;
  /** What it was given last, as text with control tokens. */
  prompt(): string;
}

function publishedTemplate(file: string): ChatTemplate {
  const text = readFileSync(new URL(`../golden/templates/${file}.jinja`, import.meta.url), "utf8");
  return chatTemplateFromConfig({}, text)!;
}

/** controls: control tokens besides needle's. */
export async function talking(
  vocabulary: VocabularyName | "needle",
  template: string,
  controls: readonly string[] = [],
): Promise<Talking> {
  const tokenizer = controls.length > 0 ? await needleWith(controls) : await goldenTokenizer(vocabulary);
  const [end] = tokenizer.endIds;
  let answers: (readonly number[])[] = [];
  let prompt: readonly number[] = [];
  let start = -1;
  let turn = -1;
  const { scheduler } = scripted(
    (position) => {
      if (start < 0) start = position;
      return answers[Math.min(turn, answers.length - 1)][position - start] ?? end;
    },
    { vocab: tokenizer.vocab, context: CONTEXT, chunk: 512 },
  );
  const submit = scheduler.submit.bind(scheduler);
  scheduler.submit = (job) => {
    prompt = [...job.ids];
    turn++;
    start = -1;
    submit(job);
  };
  const model = new LanguageModel({
    scheduler,
    tokenizer,
    template: publishedTemplate(template),
    plan: {
      ...{ context: CONTEXT, kv: "f16", cacheBytes: 1, weightBytes: 1, cacheTokens: CONTEXT, parallel: 1 },
      graph: { caches: [], pools: [] },
    },
    model: {
      config: { name: "talker", vocab: tokenizer.vocab, trainedContext: CONTEXT },
      checkpoint: { close: async () => {} },
    },
    device: { description: "scripted" },
    allocation: { close: async () => {} },
  } as unknown as ConstructorParameters<typeof LanguageModel>[0]);
  return {
    model,
    says(...texts) {
      answers = texts.map((text) => [...tokenizer.encode(text, { special: true }), end]);
      turn = -1;
      return model;
    },
    prompt: () => tokenizer.decode(prompt, { special: true }),
  };
}
