/**
 * POST /tokenize, as llama.cpp's server has it: the tokens of a text, for who wants to know whether a document fits before
 * asking about it.
 */
import { readBody } from "./body.ts";
import { TOKENIZE } from "./known-fields.ts";
import type { Served } from "./served.ts";

export async function tokenize(served: Served, request: Request): Promise<Response> {
  const fields = await readBody(request, served, TOKENIZE);
  const special = fields.boolean("parse_special") ?? true;
  const { tokenizer } = served.model;
  const tokens = tokenizer.encode(fields.requiredText("content"), { special });
  const isBegun = fields.boolean("add_special") && tokenizer.addBos && tokenizer.bosId !== tokens[0];
  return Response.json({ tokens: isBegun ? [tokenizer.bosId, ...tokens] : tokens });
}
