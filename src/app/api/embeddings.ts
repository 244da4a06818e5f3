/**
 * POST /v1/embeddings: texts, or token ids, as vectors. The library decides which models are made for
 * it; its refusal is the answer where this one is not.
 */
import { ArgumentError, type Embeddings } from "../../index.ts";
import { joinedSignal } from "../joined-signal.ts";
import { checkRoom } from "./admit.ts";
import { readBody } from "./body.ts";
import { unsupported } from "./errors.ts";
import { fieldTable, harmless, kept } from "./field-rules.ts";
import { checked, type Fields } from "./fields.ts";
import type { Offered } from "./offered.ts";
import { checkModel, type Served } from "./served.ts";

const EMBEDDINGS = fieldTable(
  kept("input", "model", "encoding_format", "dimensions"),
  harmless("is for the provider's own records", "user"),
);

type TextOrIds = string | { readonly ids: readonly number[] };

/** OpenAI's limit. */
const MOST_TEXTS = 2048;

export async function embeddings(offered: Offered, request: Request): Promise<Response> {
  const fields = await readBody(request, offered.shared, EMBEDDINGS);
  const { signal } = request;
  return offered.use({ name: fields.text("model"), signal }, (served) =>
    answerEmbed(served, fields, request),
  );
}

async function answerEmbed(served: Served, fields: Fields, request: Request): Promise<Response> {
  checkModel(fields, served);
  const texts = readTextsOrIds(fields, "input");
  const encoding = fields.choice("encoding_format", ["float", "base64"] as const) ?? "float";
  const dimensions = fields.number("dimensions", { low: 1, high: 2 ** 20, integer: true });
  const { vectors, tokens } = await embed(served, request, texts, dimensions);
  return Response.json({
    object: "list",
    data: vectors.map((vector, index) => ({
      ...{ object: "embedding", index },
      embedding: encoding === "float" ? [...vector] : Buffer.from(vector.buffer).toString("base64"),
    })),
    model: served.names[0],
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  });
}

/** A text or a list of token ids, or a list of either. ApiError 400 for anything else. */
export function readTextsOrIds(fields: Fields, name: string): TextOrIds[] {
  const found = fields.any(name);
  const isIds = (value: unknown): value is number[] =>
    Array.isArray(value) && value.length > 0 && value.every((id) => Number.isSafeInteger(id) && id >= 0);
  const list = Array.isArray(found) && !isIds(found) ? found : [found];
  const texts = list.flatMap((value): TextOrIds[] =>
    typeof value === "string" && value !== "" ? [value] : isIds(value) ? [{ ids: value }] : [],
  );
  if (texts.length === 0 || texts.length > MOST_TEXTS || texts.length < list.length)
    throw fields.wrong(name, `a text, a list of token ids, or up to ${MOST_TEXTS} of either, none empty`);
  return texts;
}

export async function embed(
  served: Served,
  request: Request,
  texts: readonly TextOrIds[],
  dimensions?: number,
): Promise<Embeddings> {
  checkRoom(served);
  const { model, pooling, closing } = served;
  const { signal, release } = joinedSignal([request.signal, closing]);
  try {
    return await model.embed(texts, { pooling, dimensions, signal });
  } catch (error) {
    if (error instanceof ArgumentError && error.argument === "embeddings")
      throw unsupported("model", "this server was started without --embeddings");
    return checked({}, () => {
      throw error;
    });
  } finally {
    release();
  }
}
