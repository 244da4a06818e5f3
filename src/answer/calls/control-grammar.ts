/**
 * Grammars of calls that are written with control tokens: Gemma 4's and FunctionGemma's, and Harmony's, where a whole
 * answer consists of messages under headers of such tokens. The one idea: there is one set of rules, in which `call` is a
 * call of any tool, and no text contains what would end it or begin another.
 */
import type { Slices } from "../../format/slices.ts";
import { bareText } from "../grammar/bare-text.ts";
import type { Grammar, GrammarToMake } from "../grammar/grammar.ts";
import { literal } from "../grammar/json-rules.ts";
import type { Mark } from "../grammar/marks.ts";
import { HARMONY_BEGINNINGS, JSON_IN_HARMONY, type Notation } from "../grammar/notation.ts";
import { argumentRules } from "../grammar/schema-grammar.ts";
import { Size } from "../grammar/size.ts";
import { besideGrammar } from "../grammar/tags.ts";
import { NOTHING, plus } from "../grammar/weight.ts";
import { CHANNEL, CONSTRAIN, END, MESSAGE, START } from "../harmony.ts";
import type { AskedCalls } from "./asked-calls.ts";
import { gemmaNotation } from "./gemma-notation.ts";

export interface ControlCalls {
  /** Reasoning has headers like calls, so the grammar begins with it. */
  readonly isWhole: boolean;
  /** How arguments are written. */
  notation(mark: Mark): Notation;
  /** A call of this tool: expressions before and after its arguments. */
  around(name: string, mark: Mark): { readonly begin: string; readonly end: string };
  /**
   * Rules: `calls`, one or several; `free`, an answer that may call; with isWhole also `before`, what may stand in front
   * of a call that is forced, and `header`, what stands in front of an answer of another grammar.
   */
  rules(mark: Mark): readonly (readonly [name: string, body: string])[];
}

export function controlGrammar(family: ControlCalls, asked: AskedCalls): GrammarToMake {
  const { isWhole } = family;
  const { tools, isForced, isSingle, answer } = asked;
  return {
    isWhole,
    *make(mark): Slices<Grammar> {
      const size = new Size();
      const notation = family.notation(mark);
      const rules = [
        `call ::= ${tools.map((_, at) => `t${at}`).join(" | ")}`,
        ...family.rules(mark).map(([name, body]) => `${name} ::= ${body}`),
      ];
      for (const [at, { name, place, parameters, isStrict }] of tools.entries()) {
        const where = `${place}.parameters`;
        const found = yield* argumentRules(parameters, where, isStrict !== false, size, notation, `t${at}`);
        const { begin, end } = family.around(name, mark);
        rules.push(`t${at} ::= ${begin} ${found.root} ${end}`, ...found.rules);
      }
      const from = (root: string) => `root ::= ${root}\n${rules.join("\n")}${notation.rules}`;
      const { weight } = size;
      const calls = isSingle ? "call" : "calls";
      if (isForced) return { text: from(isWhole ? `before ${calls}` : calls), weight };
      if (!answer) return { text: from("free"), weight };
      const other = yield* answer.make(mark);
      const whole = isWhole ? { before: from("before"), header: from("header") } : null;
      return {
        ...besideGrammar(from("call"), other, whole),
        weight: plus(weight, other.weight ?? NOTHING, 1),
      };
    },
  };
}

function gemmaCalls(
  [open, close, quote]: readonly [open: string, close: string, quote: string],
  without: readonly string[],
  leftOut: string,
  begins: string,
): ControlCalls {
  return {
    isWhole: false,
    notation: (mark) => gemmaNotation({ quote: mark(quote), without, leftOut }),
    around: (name, mark) => ({ begin: `${mark(open)} ${literal(`call:${name}`)}`, end: mark(close) }),
    rules: () => [
      ["calls", "call+"],
      ...bareText("free", { marks: new Map([[begins, null]]), end: '""', others: ["call"] }),
    ],
  };
}

// A text contains neither its own mark nor that of reasoning, which counts anywhere; between calls there is no mark of a
// call. Of each mark only the shortest unique beginning is excluded: every further character is a pass over the vocabulary.
export const GEMMA_CALLS = gemmaCalls(["<|tool_call>", "<tool_call|>", '<|"|>'], ['<|"', "<|c"], "|", "<|to");
export const FUNCTION_GEMMA_CALLS = gemmaCalls(
  ["<start_function_call>", "<end_function_call>", "<escape>"],
  ["<esca"],
  "<",
  "<start_",
);

/** One call at a time. A header names channel and recipient in either order, as templates and models do. */
export const HARMONY_CALLS: ControlCalls = {
  isWhole: true,
  notation: () => JSON_IN_HARMONY,
  around: (name, mark) => {
    const to = literal(` to=functions.${name}`);
    const channel = `${mark(CHANNEL)} "commentary"`;
    return { begin: `(${channel} ${to} | ${to} ${channel}) kind ${mark(MESSAGE)}`, end: "" };
  },
  rules: (mark) => {
    const marks = new Map(HARMONY_BEGINNINGS.map((text) => [text, null]));
    const message = (channel: string) => `${mark(CHANNEL)} ${literal(channel)} ${mark(MESSAGE)}`;
    const next = `${mark(END)} ${mark(START)} "assistant"`;
    return [
      ["calls", "call"],
      ["before", "analysis?"],
      ["free", "(analysis | preamble)* (call | final)"],
      ["header", `analysis? ${message("final")}`],
      ["kind", `" "? ${mark(CONSTRAIN)} "json" | " json" | ""`],
      ["analysis", `${message("analysis")} said`],
      ["preamble", `${message("commentary")} said`],
      ["final", `${message("final")} last`],
      ...bareText("said", { marks, end: next }),
      ...bareText("last", { marks, end: '""' }),
    ];
  },
};
