/**
 * JSON of answers. Unlike JSON.stringify, a Map becomes an object whose keys stay in their order,
 * also whole numbers, which JavaScript objects would put first.
 */
export function jsonText(value: unknown): string {
  if (value instanceof Map)
    return `{${[...value].map(([key, item]) => `${JSON.stringify(key)}:${jsonText(item)}`).join(",")}}`;
  if (Array.isArray(value)) return `[${value.map(jsonText).join(",")}]`;
  if (typeof value !== "object" || value === null || "toJSON" in value)
    return JSON.stringify(value) ?? "null";
  return jsonText(new Map(Object.entries(value).filter(([, item]) => item !== undefined)));
}

export function jsonResponse(value: unknown): Response {
  return new Response(jsonText(value), { headers: { "content-type": "application/json" } });
}
