/**
 * The families' notations of tool calls, one entry each. The notation of a model is found by rendering its template
 * with a made-up call, not guessed from a name.
 */
import { UnsupportedError } from "../../format/errors.ts";
import type { ChatTemplate } from "../../format/template.ts";
import { xmlSlices } from "../grammar/schema-grammar.ts";
import { literalTag } from "../grammar/tags.ts";
import { CALL_BEGIN, CALL_END, MESSAGE } from "../harmony.ts";
import { BareCalls, type CallReader, isOpenJson, MarkedCalls, OPEN } from "./call-readers.ts";
import { type ControlCalls, FUNCTION_GEMMA_CALLS, GEMMA_CALLS, HARMONY_CALLS } from "./control-grammar.ts";
import { readGemmaCall } from "./gemma-call.ts";
import type { TaggedCalls } from "./tagged-grammar.ts";
import type { CalledTool, WrittenCall } from "./written-call.ts";
import { readXmlCall } from "./xml-call.ts";

export interface CallFormat {
  /** The rendered conversation where PROBE is called. */
  readonly written: RegExp;
  /** Texts of the reader and in its calls; in some vocabularies they are control tokens. */
  readonly marks: readonly string[];
  /** For an answer to a request with these tools. */
  reader(tools: readonly CalledTool[]): CallReader;
  /** How a grammar writes them. */
  readonly grammar: TaggedCalls | ControlCalls;
}

const PROBE = "nibble_probe";

const FORMATS: readonly CallFormat[] = [
  {
    // Qwen 2.5 and 3, Hermes, and many that follow them.
    written: /<tool_call>\s*\{"name": "nibble_probe", "arguments": /,
    marks: ["<tool_call>", "</tool_call>"],
    reader: () => new MarkedCalls("<tool_call>", "</tool_call>", (text) => readJsonCall(text, "arguments")),
    grammar: {
      tag: (name) => ({
        begin: `<tool_call>\n{"name": ${literalTag(name)}, "arguments": `,
        end: "}\n</tool_call>",
      }),
      trigger: "<tool_call>",
      separator: "\n",
    },
  },
  {
    // Qwen3-Coder, Qwen 3.5 and later.
    written: /<tool_call>\s*<function=nibble_probe>/,
    marks: ["<tool_call>", "</tool_call>"],
    reader: (tools) => new MarkedCalls("<tool_call>", "</tool_call>", (text) => readXmlCall(text, tools)),
    grammar: {
      tag: (name) => ({ begin: `<tool_call>\n<function=${name}>\n`, end: "</function>\n</tool_call>" }),
      rules: xmlSlices,
      trigger: "<tool_call>",
      separator: "\n",
    },
  },
  {
    // Llama 3.1 to 3.3.
    written: /\{"name": "nibble_probe", "parameters": /,
    marks: ["<|python_tag|>"],
    reader: (tools) =>
      new BareCalls("<|python_tag|>", (text) => {
        const call = readJsonCall(text, "parameters");
        return call && call !== OPEN && tools.some(({ name }) => name === call.name) ? call : null;
      }),
    grammar: {
      tag: (name) => ({ begin: `{"name": ${literalTag(name)}, "parameters": `, end: "}" }),
      trigger: null,
      separator: null,
    },
  },
  {
    // gpt-oss. The reader gets calls as HarmonyStream writes them; a model writes its header in either order.
    written: /to=functions\.nibble_probe\b[^{]*<\|message\|>/,
    marks: [],
    reader: () => new MarkedCalls(CALL_BEGIN, CALL_END, readHarmonyCall),
    grammar: HARMONY_CALLS,
  },
  {
    // Gemma 4.
    written: /<\|tool_call>call:nibble_probe\{/,
    marks: ["<|tool_call>", "<tool_call|>", '<|"|>'],
    reader: () => new MarkedCalls("<|tool_call>", "<tool_call|>", (text) => readGemmaCall(text, '<|"|>')),
    grammar: GEMMA_CALLS,
  },
  {
    // FunctionGemma, from Gemma 3.
    written: /<start_function_call>call:nibble_probe\{/,
    marks: ["<start_function_call>", "<end_function_call>", "<escape>"],
    reader: () =>
      new MarkedCalls("<start_function_call>", "<end_function_call>", (text) =>
        readGemmaCall(text, "<escape>"),
      ),
    grammar: FUNCTION_GEMMA_CALLS,
  },
];

const known = new WeakMap<ChatTemplate, CallFormat | null>();

/** null: the template shows no tools, or writes calls in a way that is not known here. */
export function callFormat(template: ChatTemplate): CallFormat | null {
  let format = known.get(template);
  if (format === undefined) {
    format = askTemplate(template);
    known.set(template, format);
  }
  return format;
}

function askTemplate(template: ChatTemplate): CallFormat | null {
  const user = { role: "user", content: "question" };
  const tool = {
    type: "function",
    function: { name: PROBE, description: "", parameters: { type: "object", properties: {} } },
  };
  const call = { id: "call00000", type: "function", function: { name: PROBE, arguments: { a: "b" } } };
  const called = { role: "assistant", content: "", tool_calls: [call] };
  try {
    const tools = [tool];
    if (!template.render([user], { tools }).includes(PROBE)) return null;
    // With the tools, for which some checkpoints have a template of their own.
    const text = template.render([user, called], { tools });
    return FORMATS.find(({ written }) => written.test(text)) ?? null;
  } catch (error) {
    if (error instanceof UnsupportedError) return null;
    throw error;
  }
}

/** NAME<|message|>{...} */
function readHarmonyCall(text: string): WrittenCall | null {
  const at = text.indexOf(MESSAGE);
  return at < 0 ? null : readArguments(text.slice(0, at), text.slice(at + MESSAGE.length));
}

/** {"name": ..., [key]: {...}}; arguments that are themselves JSON text are read, too. */
function readJsonCall(text: string, key: "arguments" | "parameters"): WrittenCall | typeof OPEN | null {
  try {
    const { name, [key]: given = {} } = JSON.parse(text);
    if (typeof name !== "string") return null;
    return typeof given === "string" ? readArguments(name, given) : callOf(name, given);
  } catch {
    return isOpenJson(text) ? OPEN : null;
  }
}

function readArguments(name: string, json: string): WrittenCall | null {
  try {
    return callOf(name, JSON.parse(json));
  } catch {
    return null;
  }
}

function callOf(name: string, found: unknown): WrittenCall | null {
  const isObject = typeof found === "object" && found !== null && !Array.isArray(found);
  return isObject ? { name, arguments: found as Record<string, unknown> } : null;
}
