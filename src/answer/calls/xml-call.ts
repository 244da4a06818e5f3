/**
 * Reads a call as Qwen3-Coder and Qwen 3.5 write it: <function=name>, and in it <parameter=key> with a value on lines of its
 * own. Values have no quotes, so only the tool's schema says which of them are strings.
 */
import { OPEN } from "./call-readers.ts";
import type { CalledTool, WrittenCall } from "./written-call.ts";

const FUNCTION = /^\s*<function=([^>\n]+)>([\s\S]*)$/;
const END = /^\s*(?:<\/function>\s*)?$/;
const OPEN_PARAMETER = /^\s*<parameter=[^>\n]+>/;
/** A value ends at the last mark before another parameter or the end, since it may contain such marks. */
const PARAMETER =
  /\s*<parameter=([^>\n]+)>\n?([\s\S]*?)\n?<\/parameter>(?=\s*(?:<parameter=|<\/function>|$))/y;

/** null: the text is not such a call. */
export function readXmlCall(text: string, tools: readonly CalledTool[]): WrittenCall | typeof OPEN | null {
  const [, name, rest] = FUNCTION.exec(text) ?? [];
  if (name === undefined) return null;
  const schema = tools.find((tool) => tool.name === name)?.parameters;
  const entries: [string, unknown][] = [];
  let at = 0;
  PARAMETER.lastIndex = 0;
  for (let found = PARAMETER.exec(rest); found; found = PARAMETER.exec(rest)) {
    entries.push([found[1], argumentOf(found[2], propertyOf(schema, found[1]))]);
    at = PARAMETER.lastIndex;
  }
  const left = rest.slice(at);
  if (END.test(left)) return { name, arguments: Object.fromEntries(entries) };
  return OPEN_PARAMETER.test(left) ? OPEN : null;
}

function propertyOf(schema: CalledTool["parameters"] | undefined, key: string): unknown {
  const properties = schema?.properties;
  if (typeof properties !== "object" || properties === null || !Object.hasOwn(properties, key))
    return undefined;
  return (properties as Record<string, unknown>)[key];
}

/** A string where the schema has one; else the value as JSON or as Python writes it. What is neither stays a string. */
function argumentOf(text: string, schema: unknown): unknown {
  const types = typesOf(schema, 0);
  if (types.has("string") && !(types.has("null") && text === "null")) return text;
  const words: Readonly<Record<string, unknown>> = { True: true, False: false, None: null };
  if (Object.hasOwn(words, text.trim())) return words[text.trim()];
  try {
    const value: unknown = JSON.parse(text);
    // The value of a parameter that is in no schema stays a string if it is a word.
    return types.size > 0 || typeof value === "object" ? value : text;
  } catch {
    return text;
  }
}

const DEEPEST = 8;

/** Types that a schema allows; none: it does not say. */
function typesOf(schema: unknown, depth: number): Set<unknown> {
  if (typeof schema !== "object" || schema === null || depth > DEEPEST) return new Set();
  const { type, anyOf, oneOf, enum: values, const: only } = schema as Record<string, unknown>;
  const listed = (list: unknown) => (Array.isArray(list) ? list : []);
  const ofValue = (value: unknown) => (value === null ? "null" : typeof value);
  return new Set([
    ...(typeof type === "string" ? [type] : listed(type)),
    ...listed(values).map(ofValue),
    ...(only === undefined ? [] : [ofValue(only)]),
    ...[...listed(anyOf), ...listed(oneOf)].flatMap((one) => [...typesOf(one, depth + 1)]),
  ]);
}
