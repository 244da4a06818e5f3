/**
 * The conversation while it goes on: asks the model that was chosen, and keeps what comes. When an answer
 * is stopped, fails or loses its connection, what came so far stays, with the reason, and it can be regenerated.
 */
import { grouped } from "../../src/page.ts";
import { newId } from "../ids.ts";
import { kept } from "../kept.ts";
import type { ModelChoice } from "../models/choice.ts";
import { AnswerFailure, answerSpeed, type ChatModel, type TokenCount } from "../models/model.ts";
import { settings } from "../settings.ts";
import { Store } from "../store.ts";
import type { Head } from "./book.ts";
import { newestLeaf, pathTo, siblings } from "./branches.ts";
import { asked, changed, heard, isAnswered, type Turn, type Turns, toMessages } from "./conversation.ts";
import type { Conversations } from "./conversations.ts";
import { DocumentError, readDocument, type TextDocument } from "./documents.ts";
import { CUT, fromSaved } from "./saved.ts";

interface Notice {
  readonly text: string;
  /** Undoes what the notice reports. */
  readonly undo?: () => void;
}

export interface TalkState {
  readonly head: Head;
  /** The branch that is shown. */
  readonly turns: Turns;
  readonly isRunning: boolean;
  /** Documents that will be put before the next question. */
  readonly documents: readonly TextDocument[];
  readonly draft: string;
  /** Tokens of the draft; null: not counted. */
  readonly draftTokens: TokenCount | null;
  /** The turn that is being edited: where the branch ended before, and the draft that it replaced. */
  readonly editing: { readonly turn: Turn; readonly leaf: string | null; readonly draft: string } | null;
  readonly reading: { readonly tokens: number; readonly total: number } | null;
  /** Tokens in the cache. */
  readonly held: number;
  readonly tokensPerSecond: number | null;
  readonly notice: Notice | null;
}

/** Key of the conversation of pages before 2026-12. */
const OLD_NAME = "nibble.conversation";
/** Which conversation this tab shows, until it is closed. */
const OPEN_NAME = "nibble.open";
/** A long answer is kept also while it comes. */
const SAVE_MS = 2000;
/** A pause in typing, after which tokens are counted. */
const COUNT_MS = 250;
const TITLE_CHARACTERS = 60;

export class Talk extends Store<TalkState> {
  readonly conversations: Conversations;
  readonly #choice: ModelChoice;
  #stop = new AbortController();
  #savedAt = 0;
  /** All branches. */
  #tree = new Map<string, Turn>();
  /** Turns that this tab made or changed since it shows the conversation. */
  readonly #own = new Set<string>();
  /** Counts conversations opened and questions asked. */
  #openings = 0;
  /** Nothing of the conversation was written yet. */
  #isNew = true;
  /** The user was told that nothing more is saved. */
  #isForgetful = false;
  #counting: ReturnType<typeof setTimeout> | undefined;

  constructor(choice: ModelChoice, conversations: Conversations) {
    super({
      head: newHead(),
      turns: [],
      isRunning: false,
      documents: [],
      draft: "",
      draftTokens: null,
      editing: null,
      reading: null,
      held: 0,
      tokensPerSecond: null,
      notice: null,
    });
    this.#choice = choice;
    this.conversations = conversations;
    conversations.onChanged((id) => id === this.state.head.id && this.#follow(id));
    let { model } = choice.state;
    choice.subscribe(() => {
      if (model === choice.state.model) return;
      model = choice.state.model;
      // Another model's cache holds nothing of this.
      this.set({ held: 0, tokensPerSecond: null, notice: null });
      if (model) this.#recount(model);
    });
    this.#start();
  }

  /** An empty conversation. */
  fresh(): void {
    this.#leave();
    this.#show(newHead(), new Map(), true);
  }

  /** Unless something else is opened or asked before it is read. */
  async open(id: string): Promise<void> {
    const opening = ++this.#openings;
    const found = await (await this.conversations.book)?.read(id);
    if (!found || opening !== this.#openings) return;
    this.#leave();
    this.#show(found.head, new Map(found.turns.map((turn) => [turn.id, turn])), false);
  }

  /** False: there is nothing to send, or no model. */
  send(): boolean {
    const { draft, documents, turns, isRunning } = this.state;
    const { model } = this.#choice.state;
    const question = draft.trim();
    if (question === "" || isRunning || !model) return false;
    this.set({ draft: "", draftTokens: null, documents: [], editing: null, notice: null });
    this.#answer(asked(turns, question, documents, model.name), model, openEnd(turns));
    return true;
  }

  stop(): void {
    this.#stop.abort();
  }

  /** Asks the last question again: a new branch, unless there was no answer. */
  again(): void {
    const { turns, isRunning } = this.state;
    const { model } = this.#choice.state;
    const last = turns.at(-1);
    if (isRunning || !last || !model) return;
    this.#answer(asked(turns.slice(0, -1), last.question, last.documents, model.name), model, openEnd(turns));
  }

  /** Takes a question back into the draft; sent again, it begins a branch. Default: the last one. */
  edit(turn = this.state.turns.at(-1)): void {
    const { turns, isRunning, documents, draft, editing } = this.state;
    const at = turn ? turns.indexOf(turn) : -1;
    if (isRunning || editing || !turn || at < 0) return;
    const leaf = turns.at(-1)?.id ?? null;
    this.set({
      turns: turns.slice(0, at),
      draft: turn.question,
      documents: [...turn.documents, ...documents],
      editing: { turn, leaf, draft },
    });
    this.#count();
  }

  cancelEdit(): void {
    const { editing, documents } = this.state;
    if (!editing) return;
    const { turn, leaf, draft } = editing;
    const rest = documents.filter((document) => !turn.documents.includes(document));
    this.set({ turns: pathTo(this.#tree, leaf), draft, documents: rest, editing: null });
  }

  /** The place of a turn among its siblings: [0, 1] is all there is. */
  branch(turn: Turn): readonly [at: number, of: number] {
    const all = siblings(this.#tree, turn);
    return [all.findIndex(({ id }) => id === turn.id), all.length];
  }

  /** Shows the sibling `step` turns away, and what came after it last. */
  async turnTo(turn: Turn, step: number): Promise<void> {
    const all = siblings(this.#tree, turn);
    const other = all[all.findIndex(({ id }) => id === turn.id) + step];
    if (!other || this.state.isRunning || this.state.editing) return;
    const leaf = newestLeaf(this.#tree, other.id);
    const head = { ...this.state.head, leaf };
    this.set({ turns: pathTo(this.#tree, leaf), head });
    await (await this.conversations.book)?.change(head.id, { leaf });
  }

  setDraft(draft: string): void {
    this.set({ draft });
    this.#count();
  }

  /** Instructions of this conversation, and of those to come. */
  async setSystem(system: string): Promise<void> {
    settings.set({ system });
    const head = { ...this.state.head, system };
    this.set({ head });
    if (!this.#isNew) await (await this.conversations.book)?.change(head.id, { system });
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

  /** What is kept of the conversation that this tab showed, or of a page before. */
  async #start(): Promise<void> {
    const old = fromSaved(kept(() => localStorage.getItem(OLD_NAME)));
    const last = old.at(-1);
    if (last) {
      const head = { ...newHead(), title: titleOf(old[0]), leaf: last.id };
      const book = await this.conversations.book;
      await book?.put({ head, turns: old });
      if (book) kept(() => localStorage.removeItem(OLD_NAME));
      if (this.state.turns.length === 0) this.#show(head, new Map(old.map((turn) => [turn.id, turn])), false);
      return this.conversations.announce(head.id);
    }
    const id = kept(() => sessionStorage.getItem(OPEN_NAME));
    if (id !== null && this.state.turns.length === 0) await this.open(id);
  }

  #show(head: Head, tree: Map<string, Turn>, isNew: boolean): void {
    this.#openings++;
    this.#tree = tree;
    this.#own.clear();
    this.#isNew = isNew;
    this.#isForgetful = false;
    kept(() => sessionStorage.setItem(OPEN_NAME, head.id));
    const none = { editing: null, held: 0, tokensPerSecond: null, notice: null };
    this.set({ head, turns: pathTo(tree, head.leaf), ...none });
  }

  /** An answer that runs ends; what was said is kept. */
  #leave(): void {
    if (!this.state.isRunning) return;
    this.stop();
    this.#setTurns(changed(this.state.turns, { state: "stopped" }));
    this.set({ isRunning: false, reading: null });
  }

  /** Another tab has changed this conversation: adds its branches, and shows its continuation of this one. */
  async #follow(id: string): Promise<void> {
    const found = await (await this.conversations.book)?.read(id);
    const { head, turns, isRunning, editing } = this.state;
    if (head.id !== id || this.#isNew) return;
    if (!found) {
      if (!isRunning) this.fresh();
      return;
    }
    // This tab's own turns are newer here than when the book was read.
    const own = [...this.#own].flatMap((id) => this.#tree.get(id) ?? []);
    const running = isRunning ? turns.slice(-1) : [];
    // An answer that is still running in another tab comes when it is complete; a turn that this tab took back does not come.
    const others = found.turns.filter(
      ({ problem, id }) => this.#tree.has(id) || (problem !== CUT && !this.#own.has(id)),
    );
    this.#tree = new Map([...others, ...own, ...running].map((turn) => [turn.id, turn]));
    const shown = { title: found.head.title, isNamed: found.head.isNamed, system: found.head.system };
    this.set({ head: { ...head, ...shown } });
    if (!isRunning && !editing)
      this.set({ turns: pathTo(this.#tree, newestLeaf(this.#tree, turns.at(-1)?.id ?? null)) });
  }

  #count(): void {
    clearTimeout(this.#counting);
    const { draft } = this.state;
    if (draft === "") return this.set({ draftTokens: null });
    this.#counting = setTimeout(async () => {
      const found = await this.#choice.state.model?.count(draft).catch(() => null);
      if (this.state.draft === draft) this.set({ draftTokens: found ?? null });
    }, COUNT_MS);
  }

  /** `dropped`: a turn without an answer that this one replaces. */
  async #answer(turns: Turns, model: ChatModel, dropped: string | null): Promise<void> {
    const stop = new AbortController();
    this.#stop = stop;
    this.#openings++;
    const { head } = this.state;
    if (dropped !== null) this.#tree.delete(dropped);
    const title = head.title === "" ? titleOf(turns[0]) : head.title;
    this.set({ isRunning: true, reading: null, tokensPerSecond: null, head: { ...head, title } });
    this.#setTurns(turns, dropped);
    // Not if another conversation was opened meanwhile.
    const isCurrent = () => this.#stop === stop && this.state.isRunning && this.state.head.id === head.id;
    const change = (part: Partial<Turn>) => {
      if (isCurrent()) this.#setTurns(changed(this.state.turns, part));
    };
    const { temperature, maxTokens } = settings.state;
    try {
      const { end, figures } = await model.answer(toMessages(turns, head.system), {
        signal: stop.signal,
        settings: { temperature, maxTokens },
        onParts: (parts) => {
          if (!isCurrent()) return;
          this.set({ turns: heard(this.state.turns, parts), reading: null });
          if (performance.now() - this.#savedAt > SAVE_MS) this.#save(null);
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
      if (kind === "lost") this.#choice.look();
    } finally {
      if (this.#stop === stop) this.set({ isRunning: false, reading: null });
    }
  }

  #setTurns(turns: Turns, dropped: string | null = null): void {
    const last = turns.at(-1);
    if (last) {
      this.#tree.set(last.id, last);
      this.#own.add(last.id);
    }
    const head = { ...this.state.head, leaf: last?.id ?? null, changedAt: Date.now() };
    this.set({ turns, head });
    const { id } = head;
    this.#save(dropped).then(() => this.conversations.announce(id));
  }

  /** The last turn and the head. */
  async #save(dropped: string | null): Promise<void> {
    const { head, turns } = this.state;
    const last = turns.at(-1);
    if (!last) return;
    this.#savedAt = performance.now();
    const isNew = this.#isNew;
    this.#isNew = false;
    if (isNew) kept(() => sessionStorage.setItem(OPEN_NAME, head.id));
    try {
      const book = await this.conversations.book;
      if (!book) throw new Error("The browser does not let this page keep anything");
      if (await book.write(head, last, isNew, dropped)) return;
      this.#forget("It was deleted in another tab");
    } catch (error) {
      this.#forget((error as Error).message);
    }
  }

  #forget(reason: string): void {
    if (!this.#isForgetful)
      this.set({ notice: { text: `This conversation is not kept: ${reason.replace(/\.$/, "")}.` } });
    this.#isForgetful = true;
  }
}

function newHead(): Head {
  const now = Date.now();
  const { system } = settings.state;
  return { id: newId(), title: "", isNamed: false, createdAt: now, changedAt: now, leaf: null, system };
}

function titleOf({ question }: Turn): string {
  const line = question.replace(/\s+/g, " ").trim();
  return line.length > TITLE_CHARACTERS ? `${line.slice(0, TITLE_CHARACTERS - 1)}…` : line;
}

/** The last turn, where it has no answer. */
function openEnd(turns: Turns): string | null {
  const last = turns.at(-1);
  return last && !isAnswered(last) ? last.id : null;
}

/** Nothing came, or the answer is incomplete. */
export function wantsRetry(turn: Turn): boolean {
  return turn.state === "lost" || turn.state === "failed" || (turn.state === "stopped" && !isAnswered(turn));
}
