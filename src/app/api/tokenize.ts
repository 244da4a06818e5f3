/**
 * POST /tokenize, as llama.cpp's server has it: the tokens of a text, for who wants to know whether a document fits before
 * asking about it.
 */
import { readBody } from "./body.ts";
import type { Served } from "./served.ts";

export async function tokenize(served: Served, request: Request): Promise<Response> {
  const fields = await readBody(request, served.mostBodyBytes);
  const special = fields.boolean("parse_special") ?? true;
  return Response.json({
    tokens: served.model.tokenizer.encode(fields.requiredText("content"), { special }),
  });
}
