/**
 * In the worker: the model that is loaded, and its answers. There is one model; a new worker is made for the next,
 * so that the browser frees all of the GPU's memory.
 */

import {
  ArgumentError,
  type ChatMessage,
  kvRates,
  type LanguageModel,
  load,
  NibbleError,
  ratesByFormat,
} from "../../src/browser.ts";
import { MARKS, openedBy } from "../../src/page.ts";
import type { Doing } from "./protocol.ts";

/** Default: a browser does not report how much memory the GPU has. */
const MODEST_CONTEXT = 8192;

let loaded: LanguageModel | null = null;

export const open: Doing<"open"> = async ({ source, context, kv }, report, signal) => {
  if (loaded) throw new NibbleError("argument", "this worker has a model already");
  const isDue = pacing();
  const loading = (tokens: number | undefined) =>
    load(source, {
      context: tokens,
      kv: kv || undefined,
      signal,
      onProgress: ({ bytes, totalBytes }) => {
        if (isDue() || bytes === totalBytes) report({ bytes, totalBytes });
      },
    });
  loaded = await loading(context ?? MODEST_CONTEXT).catch((error) => {
    // No number was asked for, and the model was trained for less: then its whole context.
    if (context === null && error instanceof ArgumentError && error.argument === "context")
      return loading(undefined);
    throw error;
  });
  const { plan, device, chatTemplate } = loaded;
  return {
    device,
    kv: plan.kv,
    context: plan.context,
    rates: kvRates(plan),
    formats: ratesByFormat(plan),
    hasTemplate: chatTemplate !== null,
    section: chatTemplate && openedBy(chatTemplate),
  };
};

export const answer: Doing<"answer"> = async ({ messages, sampling, maxTokens }, report, signal) => {
  const model = current();
  const { chatTemplate } = model;
  const raw = chatTemplate === null;
  const asked = raw && messages[0].role === "system" ? withoutSystem(messages) : messages;
  // Without a template there are no turns: the last message is text that goes on.
  const ids = raw ? model.encode(asked.at(-1)?.content ?? "", { raw }) : model.encode(asked);
  let generated = 0;
  const generation = model.generate(
    { ids },
    {
      ...sampling,
      maxTokens,
      special: MARKS,
      raw,
      signal,
      onPrompt: (tokens, total) => report({ kind: "reading", tokens, total }),
    },
  );
  for await (const piece of generation) {
    generated += piece.ids.length;
    report({ kind: "text", text: piece.text, generated, held: ids.length + generated });
  }
  const { text: _text, ids: _ids, seed: _seed, ...answered } = await generation.result();
  return answered;
};

export const count: Doing<"count"> = async (text) => current().tokenizer.encode(text).length;

function current(): LanguageModel {
  if (!loaded) throw new ArgumentError("the model", "not loaded", "one that is");
  return loaded;
}

/** For templates without a system message: its text goes before the first question. */
function withoutSystem([system, first, ...rest]: readonly ChatMessage[]): ChatMessage[] {
  return [{ ...first, content: `${system.content}\n\n${first.content}` }, ...rest];
}

/** True at most ten times a second: each report makes the page draw. */
function pacing(): () => boolean {
  let last = 0;
  return () => {
    const now = performance.now();
    if (now - last < 100) return false;
    last = now;
    return true;
  };
}
