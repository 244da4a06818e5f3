/**
 * POST /tokenize, as llama.cpp's server has it: the tokens of a text, for clients that check whether a document fits before
 * they send it.
 */
import { inSlices } from "../../index.ts";
import { readBody } from "./body.ts";
import type { Fields } from "./fields.ts";
import { TOKENIZE } from "./known-fields.ts";
import type { Offered } from "./offered.ts";
import type { Served } from "./served.ts";

export async function tokenize(offered: Offered, request: Request): Promise<Response> {
  const fields = await readBody(request, offered.shared, TOKENIZE);
  const { signal } = request;
  return offered.use({ name: fields.text("model"), signal }, (served) => tokensOf(served, fields, signal));
}

async function tokensOf(served: Served, fields: Fields, signal: AbortSignal): Promise<Response> {
  const special = fields.boolean("parse_special") ?? true;
  const { tokenizer } = served.model;
  const text = fields.requiredText("content");
  const tokens = await inSlices(tokenizer.slices(text, { special }), "reading the text", signal);
  const isBegun = fields.boolean("add_special") && tokenizer.addBos && tokenizer.bosId !== tokens[0];
  return Response.json({ tokens: isBegun ? [tokenizer.bosId, ...tokens] : tokens });
}
