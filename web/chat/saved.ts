/**
 * Turns as they were kept or come from a file: read part by part, since the browser's storage and files may be anybody's.
 */
import { amountOf, fieldsOf, listOf, textOf } from "../checked.ts";
import { newId } from "../ids.ts";
import type { AnswerFigures } from "../models/model.ts";
import type { Turn, TurnState, Turns } from "./conversation.ts";
import type { TextDocument } from "./documents.ts";

/** The note on an answer that was still running when it was saved. */
export const CUT = "The page was closed before this answer was done.";

/** Reads the one conversation that pages before 2026-12 kept in localStorage. */
export function fromSaved(text: string | null): Turns {
  try {
    const { version, turns } = fieldsOf(JSON.parse(text ?? "{}"));
    return version === 1 ? inLine(listOf(turns, readTurn)) : [];
  } catch {
    return [];
  }
}

/** Turns without links to the turn before, in order. */
export function inLine(turns: Turns): Turns {
  return turns.map((turn, i) => ({ ...turn, parent: turns[i - 1]?.id ?? null }));
}

const STATES: readonly string[] = ["end", "length", "context", "stopped", "lost", "failed"];

/** A damaged part is dropped, or its turn if that is useless without it: null. */
export function readTurn(value: unknown): Turn | null {
  const { documents, figures, ...rest } = fieldsOf(value);
  const question = textOf(rest.question);
  const answer = textOf(rest.answer);
  const state = textOf(rest.state);
  if (question === null || answer === null || state === null || !Array.isArray(documents)) return null;
  if (state !== "running" && !STATES.includes(state)) return null;
  const isCut = state === "running";
  return {
    id: textOf(rest.id) ?? newId(),
    parent: textOf(rest.parent),
    at: amountOf(rest.at) ?? 0,
    question,
    answer,
    documents: listOf(documents, readDocument),
    thinking: textOf(rest.thinking) ?? "",
    state: isCut ? "lost" : (state as TurnState),
    problem: isCut ? CUT : textOf(rest.problem),
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
