/**
 * A conversation on the page: turns, the documents in them, and what is kept between visits. Pure: every change gives a new
 * one. One idea: the last turn alone may be unanswered, and is then no part of what a model sees, since roles alternate.
 */

import type { ChatMessage } from "../../src/browser.ts";
import type { Part } from "../../src/page.ts";
import { amountOf, fieldsOf, listOf, textOf } from "../checked.ts";
import type { AnswerEnd, AnswerFigures } from "../models/model.ts";
import type { TextDocument } from "./documents.ts";

/** failed and lost come with a `problem`. */
export type TurnState = "running" | AnswerEnd | "stopped" | "lost" | "failed";

export interface Turn {
  readonly question: string;
  readonly documents: readonly TextDocument[];
  readonly answer: string;
  readonly thinking: string;
  readonly state: TurnState;
  readonly problem: string | null;
  readonly model: string;
  readonly figures: AnswerFigures | null;
}

export type Turns = readonly Turn[];

/** A new question behind the answered turns. What an unanswered one had attached goes along. */
export function asked(
  turns: Turns,
  question: string,
  documents: readonly TextDocument[],
  model: string,
): Turns {
  const last = turns.at(-1);
  const isOpen = last !== undefined && !isAnswered(last);
  return [
    ...(isOpen ? turns.slice(0, -1) : turns),
    {
      question,
      documents: isOpen ? [...last.documents, ...documents] : documents,
      answer: "",
      thinking: "",
      state: "running",
      problem: null,
      model,
      figures: null,
    },
  ];
}

/** The last turn with something of it changed. */
export function changed(turns: Turns, change: Partial<Turn>): Turns {
  const last = turns.at(-1);
  return last ? [...turns.slice(0, -1), { ...last, ...change }] : turns;
}

export function heard(turns: Turns, parts: readonly Part[]): Turns {
  const { answer = "", thinking = "" } = turns.at(-1) ?? {};
  const said = { answer, thinking };
  for (const { kind, text } of parts) said[kind] += text;
  return changed(turns, said);
}

export function isAnswered({ answer, state }: Turn): boolean {
  // A model that says nothing has answered.
  return answer.trim() !== "" || state === "end" || state === "length" || state === "context";
}

/**
 * What a model is asked. Documents of the first question go with the instructions into the system message, as in the
 * terminal: models are trained to look there; later ones stand in front of their questions, so that nothing is read again.
 */
export function toMessages(turns: Turns, instructions: string): ChatMessage[] {
  const seen = turns.filter((turn, i) => i === turns.length - 1 || isAnswered(turn));
  const first = seen[0]?.documents.map(({ text }) => text) ?? [];
  const system = [instructions.trim(), ...first].filter((text) => text !== "").join("\n\n");
  const messages: ChatMessage[] = system === "" ? [] : [{ role: "system", content: system }];
  for (const [i, { documents, question, answer }] of seen.entries()) {
    const inFront = i === 0 ? [] : documents.map(({ text }) => text);
    messages.push({ role: "user", content: [...inFront, question].join("\n\n") });
    if (i < seen.length - 1) messages.push({ role: "assistant", content: answer });
  }
  return messages;
}

const VERSION = 1;

export function toSaved(turns: Turns): string {
  return JSON.stringify({ version: VERSION, turns });
}

/** Without what this version cannot have written: a damaged part costs itself, or its turn where it is no turn without it. */
export function fromSaved(text: string | null): Turns {
  try {
    const { version, turns } = fieldsOf(JSON.parse(text ?? "{}"));
    return version === VERSION ? listOf(turns, readTurn) : [];
  } catch {
    return [];
  }
}

const STATES: readonly string[] = ["end", "length", "context", "stopped", "lost", "failed"];

function readTurn(value: unknown): Turn | null {
  const { documents, figures, ...rest } = fieldsOf(value);
  const question = textOf(rest.question);
  const answer = textOf(rest.answer);
  const state = textOf(rest.state);
  if (question === null || answer === null || state === null || !Array.isArray(documents)) return null;
  if (state !== "running" && !STATES.includes(state)) return null;
  const isCut = state === "running";
  return {
    question,
    answer,
    documents: listOf(documents, readDocument),
    thinking: textOf(rest.thinking) ?? "",
    state: isCut ? "lost" : (state as TurnState),
    problem: isCut ? "The page was closed before this answer was done." : textOf(rest.problem),
    model: textOf(rest.model) ?? "",
    figures: readFigures(figures),
  };
}

function readDocument(value: unknown): TextDocument | null {
  const { name, bytes, text, tokens, isExact } = fieldsOf(value);
  const read = { name: textOf(name), bytes: amountOf(bytes), text: textOf(text) };
  if (read.name === null || read.bytes === null || read.text === null) return null;
  return { ...(read as TextDocument), tokens: amountOf(tokens), isExact: isExact === true };
}

function readFigures(value: unknown): AnswerFigures | null {
  const found = fieldsOf(value);
  const promptTokens = amountOf(found.promptTokens);
  const generatedTokens = amountOf(found.generatedTokens);
  const promptMs = amountOf(found.promptMs);
  const generateMs = amountOf(found.generateMs);
  if (promptTokens === null || generatedTokens === null || promptMs === null || generateMs === null)
    return null;
  const reusedTokens = amountOf(found.reusedTokens);
  const draftedTokens = amountOf(found.draftedTokens);
  const acceptedTokens = amountOf(found.acceptedTokens);
  const guessed = { draftedTokens, acceptedTokens };
  return { promptTokens, reusedTokens, generatedTokens, ...guessed, promptMs, generateMs };
}
