/**
 * The conversation while it goes on: asks the model that was chosen, and keeps what comes. Owns what becomes of an answer
 * that is stopped, fails or loses its connection: what was said stays, with the reason, and can be asked for again.
 */
import { grouped } from "../../src/page.ts";
import { kept } from "../kept.ts";
import type { ModelChoice } from "../models/choice.ts";
import { AnswerFailure, answerSpeed, type ChatModel } from "../models/model.ts";
import { settings } from "../settings.ts";
import { Store } from "../store.ts";
import {
  asked,
  changed,
  fromSaved,
  heard,
  isAnswered,
  type Turn,
  type Turns,
  toMessages,
  toSaved,
} from "./conversation.ts";
import { DocumentError, readDocument, type TextDocument } from "./documents.ts";

export interface Notice {
  readonly text: string;
  /** Takes back what the notice tells of. */
  readonly undo?: () => void;
}

export interface TalkState {
  readonly turns: Turns;
  readonly isRunning: boolean;
  /** In front of the next question. */
  readonly documents: readonly TextDocument[];
  readonly draft: string;
  /** The turn that was taken back to be written anew, and the draft that made way for it. */
  readonly editing: { readonly turn: Turn; readonly draft: string } | null;
  readonly reading: { readonly tokens: number; readonly total: number } | null;
  /** Tokens in the cache. */
  readonly held: number;
  readonly tokensPerSecond: number | null;
  readonly notice: Notice | null;
}

const NAME = "nibble.conversation";
/** A long answer is kept also while it comes. */
const SAVE_MS = 2000;

export class Talk extends Store<TalkState> {
  readonly #choice: ModelChoice;
  #stop = new AbortController();
  #savedAt = 0;
  /** The browser keeps no more of this conversation, and that was said. */
  #isForgetful = false;

  constructor(choice: ModelChoice) {
    super({
      turns: fromSaved(kept(() => localStorage.getItem(NAME))),
      isRunning: false,
      documents: [],
      draft: "",
      editing: null,
      reading: null,
      held: 0,
      tokensPerSecond: null,
      notice: null,
    });
    this.#choice = choice;
    let { model } = choice.state;
    choice.subscribe(() => {
      if (model === choice.state.model) return;
      model = choice.state.model;
      // Another model's cache holds nothing of this.
      this.set({ held: 0, tokensPerSecond: null, notice: null });
      if (model) this.#recount(model);
    });
  }

  /** False: there is nothing to send, or nobody to answer. */
  send(): boolean {
    const { draft, documents, turns, isRunning } = this.state;
    const { model } = this.#choice.state;
    const question = draft.trim();
    if (question === "" || isRunning || !model) return false;
    this.set({ draft: "", documents: [], editing: null, notice: null });
    this.#answer(asked(turns, question, documents, model.name), model);
    return true;
  }

  stop(): void {
    this.#stop.abort();
  }

  /** The last question once more. */
  again(): void {
    const { turns, isRunning } = this.state;
    const { model } = this.#choice.state;
    const last = turns.at(-1);
    if (isRunning || !last || !model) return;
    this.#answer(asked(turns.slice(0, -1), last.question, last.documents, model.name), model);
  }

  /** Takes the last question back into the draft. */
  edit(): void {
    const { turns, isRunning, documents, draft, editing } = this.state;
    const turn = turns.at(-1);
    if (isRunning || editing || !turn) return;
    const open = [...turn.documents, ...documents];
    const change = { draft: turn.question, documents: open, editing: { turn, draft } };
    this.#setTurns(turns.slice(0, -1), change);
  }

  cancelEdit(): void {
    const { turns, editing, documents } = this.state;
    if (!editing) return;
    const { turn, draft } = editing;
    const rest = documents.filter((document) => !turn.documents.includes(document));
    this.#setTurns([...turns, turn], { draft, documents: rest, editing: null });
  }

  clear(): void {
    const { documents, isRunning } = this.state;
    this.stop();
    const turns = isRunning ? changed(this.state.turns, { state: "stopped" }) : this.state.turns;
    const undo = () => this.#setTurns(turns, { documents, notice: null });
    const none = { documents: [], editing: null, held: 0, tokensPerSecond: null };
    this.#setTurns([], { ...none, notice: { text: "The conversation was cleared.", undo } });
  }

  async attach(files: Iterable<File>): Promise<void> {
    for (const file of files) {
      try {
        const document = await this.#counted(await readDocument(file));
        this.set({ documents: [...this.state.documents, document], notice: null });
      } catch (error) {
        if (!(error instanceof DocumentError || error instanceof AnswerFailure)) throw error;
        this.set({ notice: { text: error.message } });
      }
    }
  }

  detach(document: TextDocument): void {
    this.set({ documents: this.state.documents.filter((one) => one !== document) });
  }

  /** DocumentError for one that no prompt of this model can hold. */
  async #counted(document: TextDocument): Promise<TextDocument> {
    const { model } = this.#choice.state;
    if (!model) return document;
    const { tokens, isExact } = await model.count(document.text);
    if (isExact && model.context !== null && tokens >= model.context)
      throw new DocumentError(
        `${document.name} has ${grouped(tokens)} tokens; the context of ${model.name} holds ${grouped(model.context)}. Attach less of it, or load the model with a longer context.`,
      );
    return { ...document, tokens, isExact };
  }

  async #recount(model: ChatModel): Promise<void> {
    for (const document of this.state.documents) {
      const found = await model.count(document.text).catch(() => null);
      if (found && this.#choice.state.model === model)
        this.set({
          documents: this.state.documents.map((one) => (one === document ? { ...one, ...found } : one)),
        });
    }
  }

  async #answer(turns: Turns, model: ChatModel): Promise<void> {
    const stop = new AbortController();
    this.#stop = stop;
    this.#setTurns(turns, { isRunning: true, reading: null, tokensPerSecond: null });
    // A conversation that was cleared meanwhile takes no more.
    const isCurrent = () =>
      this.#stop === stop && this.state.isRunning && this.state.turns.length === turns.length;
    const change = (part: Partial<Turn>) => {
      if (isCurrent()) this.#setTurns(changed(this.state.turns, part));
    };
    const { system, temperature, maxTokens } = settings.state;
    try {
      const { end, figures } = await model.answer(toMessages(turns, system), {
        signal: stop.signal,
        settings: { temperature, maxTokens },
        onParts: (parts) => {
          if (!isCurrent()) return;
          this.set({ turns: heard(this.state.turns, parts), reading: null });
          if (performance.now() - this.#savedAt > SAVE_MS) this.#save();
        },
        onReading: (tokens, total) => isCurrent() && this.set({ reading: { tokens, total } }),
        onHeld: (held) => isCurrent() && this.set({ held }),
        onSpeed: (tokensPerSecond) => isCurrent() && this.set({ tokensPerSecond }),
      });
      change({ state: end, figures });
      const speed = figures && answerSpeed(figures);
      if (speed && isCurrent()) this.set({ tokensPerSecond: speed });
    } catch (error) {
      const { kind, message } = error as AnswerFailure;
      if (kind === "stopped") change({ state: "stopped" });
      else change({ state: kind === "lost" ? "lost" : "failed", problem: message });
      if (kind === "device") this.#choice.lose(message);
    } finally {
      if (this.#stop === stop) this.set({ isRunning: false, reading: null });
    }
  }

  #setTurns(turns: Turns, change: Partial<TalkState> = {}): void {
    this.set({ turns, ...change });
    this.#save();
  }

  #save(): void {
    this.#savedAt = performance.now();
    const isKept = kept(() => localStorage.setItem(NAME, toSaved(this.state.turns))) !== null;
    if (isKept || this.#isForgetful) {
      this.#isForgetful = !isKept;
      return;
    }
    this.#isForgetful = true;
    // An older state of it would be worse than none.
    kept(() => localStorage.removeItem(NAME));
    const text = "This conversation is too large for the browser to keep: it ends when the page is closed.";
    this.set({ notice: { text } });
  }
}

/** Nothing came, or what came is not all. */
export function wantsRetry(turn: Turn): boolean {
  return turn.state === "lost" || turn.state === "failed" || (turn.state === "stopped" && !isAnswered(turn));
}
