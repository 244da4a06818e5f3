/**
 * One conversation with one model: answers, documents, files. When a turn is stopped, fails or does
 * not fit, the answer so far is kept, a question without an answer is taken back, and nothing else changes.
 */
import { existsSync } from "node:fs";
import {
  ArgumentError,
  ContextError,
  fileSource,
  type GenerationResult,
  type LanguageModel,
  NibbleError,
  type RenderOptions,
  type SampleOptions,
  throwIfAborted,
} from "../index.ts";
import { bytes, grouped, perSecond } from "../plot/numbers.ts";
import type { Screen } from "./chat-screen.ts";
import { Conversation } from "./conversation.ts";
import { cachePath, readConversation, writeWhole } from "./conversation-file.ts";
import { readDocument } from "./input.ts";
import { joinedSignal } from "./joined-signal.ts";
import { progress } from "./progress.ts";

export interface ChatSettings {
  /** The model's name as the user wrote it. */
  readonly name: string;
  readonly system: string | null;
  readonly sampling: SampleOptions;
  readonly maxTokens?: number;
  /** Variables of the chat template. */
  readonly template: RenderOptions;
}

/** From this share on, a note reports how full the context is. */
const NEARLY_FULL = 0.9;

export class Chat {
  readonly model: LanguageModel;
  readonly settings: ChatSettings;
  readonly screen: Screen;
  readonly conversation: Conversation;
  /** Results of finished answers, oldest first. */
  readonly results: GenerationResult[] = [];
  /** The file that /save without a name writes, and may replace. */
  file: string | null = null;
  #unsavedTurns = 0;
  /** Repeated answers: each uses other random numbers. */
  #retries = 0;
  readonly #signal: AbortSignal;

  /** The model has a chat template. */
  constructor(model: LanguageModel, settings: ChatSettings, screen: Screen, signal: AbortSignal) {
    this.model = model;
    this.settings = settings;
    this.screen = screen;
    this.#signal = signal;
    const template = model.chatTemplate;
    if (template === null) throw new ArgumentError("the model", "without a chat template", "one that has it");
    this.conversation = new Conversation(settings.system);
  }

  /** Tokens up to the answer of an empty question. */
  tokens(): number {
    return this.model.encode(this.conversation.messages(""), { template: this.settings.template }).length;
  }

  /** Answers on the screen. `stop` ends the answer; what came so far is kept. */
  async answer(question: string, stop: AbortSignal): Promise<void> {
    const { sampling, maxTokens, template } = this.settings;
    const started = performance.now();
    const reading = progress("reading", (done, total) => {
      return `${grouped(done)} of ${grouped(total)} tokens${perSecond(done, performance.now() - started)}`;
    });
    const said = { text: "", reasoning: "" };
    let result: GenerationResult | null = null;
    let failure: unknown = null;
    const { signal, release } = joinedSignal([this.#signal, stop]);
    try {
      const generation = this.model.generate(this.conversation.messages(question), {
        ...sampling,
        ...(sampling.seed === undefined ? {} : { seed: sampling.seed + this.#retries }),
        ...{ maxTokens, template },
        signal,
        onPrompt: reading.show,
      });
      for await (const part of generation.parts()) {
        reading.clear();
        if (part.kind === "call") continue;
        said[part.kind] += part.text;
        await this.screen.part(part);
      }
      result = await generation.result();
    } catch (error) {
      failure = error;
    }
    release();
    reading.clear();
    this.screen.endAnswer();
    if (this.#signal.aborted) throw failure;
    this.#keep(question, said, result);
    if (failure && !stop.aborted) throw this.#explained(failure);
    if (!result) this.screen.note(said.text.trim() === "" ? TAKEN_BACK : "(stopped; what was said is kept)");
  }

  async attachFile(path: string): Promise<void> {
    if (path === "" || path === "-") throw new ArgumentError("/file", `"${path}"`, "the path of a document");
    this.attach(path, await readDocument(path, this.#signal));
  }

  /** Replaces the system message. NibbleError "context", and nothing changes, when it does not fit. */
  tellFirst(text: string | null): void {
    const undo = this.conversation.tellFirst(text);
    const { context } = this.model.plan;
    const tokens = this.tokens();
    if (tokens > context) {
      undo();
      throw new NibbleError(
        "context",
        `with it the conversation has ${grouped(tokens)} tokens; the context holds ${grouped(context)}. It was not changed. ${this.#moreRoom()}`,
      );
    }
    const again = this.conversation.turns.length > 0 ? "; the conversation is read again with it" : "";
    this.screen.note(text === null ? `no system message${again}` : `system message set${again}`);
  }

  /** Answers the last message again, with another random number. Without a new answer the old one is kept. */
  async regenerate(stop: AbortSignal): Promise<void> {
    const turn = this.conversation.takeBack();
    if (turn === null) throw new ArgumentError("/regen", "first", "a message before it");
    this.#retries++;
    const turns = this.conversation.turns.length;
    try {
      if ((this.settings.sampling.temperature ?? this.model.sampling.temperature ?? 0) === 0)
        this.screen.note("(the likeliest answer comes again: --temperature above 0 gives others)");
      await this.answer(turn.question, stop);
    } finally {
      if (this.conversation.turns.length === turns) this.conversation.putBack(turn);
    }
  }

  /** Adds a document. NibbleError "context", and nothing changes, when it does not fit. */
  attach(path: string, text: string): void {
    const before = this.tokens();
    const undo = this.conversation.attach(text);
    try {
      const { context } = this.model.plan;
      const tokens = this.tokens();
      if (tokens > context)
        throw new NibbleError(
          "context",
          `${path} has ${grouped(tokens - before)} tokens; ${grouped(Math.max(0, context - before))} of the context of ${grouped(context)} are free. It was not put in. ${this.#moreRoom()}`,
        );
      const where =
        this.conversation.waiting.length > 0 ? "in front of your next message" : "at the beginning";
      this.screen.note(`${path}: ${grouped(tokens - before)} tokens, ${where}`);
    } catch (error) {
      undo();
      throw error;
    }
  }

  clear(): void {
    this.conversation.clear();
    this.file = null;
    this.#unsavedTurns = 0;
  }

  /** Writes the conversation; `path` "": to the file of last time, or one named for the present. */
  async save(path: string): Promise<void> {
    if (this.conversation.turns.length === 0)
      throw new NibbleError("argument", "there is nothing to save yet: no question was answered");
    const to =
      path || this.file || `nibble-chat-${new Date().toISOString().slice(0, 19).replace(/\D/g, "")}.json`;
    const mayReplace = to === this.file;
    await writeWhole(to, this.conversation.toJson(this.settings.name), mayReplace);
    this.file = to;
    this.#unsavedTurns = 0;
    this.screen.note(`saved: ${to}${await this.#saveCache(cachePath(to), mayReplace)}`);
  }

  async load(path: string): Promise<void> {
    if (path === "" || path === "-") throw new ArgumentError("/load", `"${path}"`, "a file that /save wrote");
    if (this.#unsavedTurns > 0)
      throw new NibbleError("argument", "this conversation is not saved; /save it, or /clear, then /load");
    const saved = await readConversation(path, this.#signal);
    this.conversation.replace(saved);
    this.file = path;
    const { model, turns } = saved;
    const { name } = this.settings;
    const count = `${turns.length} ${turns.length === 1 ? "turn" : "turns"}`;
    const before = model === name ? "" : `, until now with ${JSON.stringify(model)}`;
    this.screen.note(`loaded: ${path}, ${count}${before}${await this.#restoreCache(cachePath(path))}`);
  }

  /** The result, for the end of a note: the conversation is saved without it. */
  async #saveCache(path: string, mayReplace: boolean): Promise<string> {
    const { model, settings, conversation } = this;
    const { cacheBytes, cacheTokens } = model.plan;
    const shown = progress("saving", (done) => bytes(done));
    // The next question's opening was never read, nor the end of the last answer.
    const all = model.encode(conversation.messages(""), { template: settings.template });
    const ids = all.slice(0, model.held({ ids: all }));
    const wanted = (cacheBytes * ids.length) / cacheTokens;
    let size = 0;
    const signal = this.#signal;
    const sections = model.saveSession({ ids });
    async function* counted() {
      for await (const section of sections) {
        throwIfAborted(signal, "saving");
        size += section.length;
        shown.show(size, Math.max(size, wanted));
        yield section;
      }
    }
    try {
      await writeWhole(path, counted(), mayReplace);
      return `, and what was read of it in ${path} (${bytes(size)})`;
    } catch (error) {
      if (signal.aborted) throw error;
      return `; /load will have to read it again: ${(error as Error).message}`;
    } finally {
      shown.clear();
    }
  }

  async #restoreCache(path: string): Promise<string> {
    if (!existsSync(path)) return "";
    const shown = progress("loading", (done, total) => `${bytes(done)} of ${bytes(total)}`);
    const signal = this.#signal;
    try {
      const source = await fileSource(path);
      const { size } = source;
      const read = async (offset: number, into: Uint8Array) => {
        shown.show(offset, size);
        await source.read(offset, into);
      };
      const { tokens } = await this.model
        .restoreSession({ ...source, read }, { signal })
        .finally(() => source.close());
      return `, ${grouped(tokens)} tokens of it need not be read again`;
    } catch (error) {
      if (signal.aborted) throw error;
      return `; the next answer will read it again: ${(error as Error).message}`;
    } finally {
      shown.clear();
    }
  }

  #keep(question: string, said: { text: string; reasoning: string }, result: GenerationResult | null): void {
    // An empty answer counts as an answer, unless the model was stopped before.
    if (!result && said.text.trim() === "") return;
    this.conversation.add(question, said.text, said.reasoning.trim());
    this.#unsavedTurns++;
    if (!result) return;
    this.results.push(result);
    const { stopReason, promptTokens, generatedTokens } = result;
    const { context } = this.model.plan;
    const used = promptTokens + generatedTokens;
    if (stopReason === "context") {
      this.screen.note(
        `(the context of ${grouped(context)} tokens is full: the answer ends here and is kept. ${this.#moreRoom()})`,
      );
    } else if (stopReason === "cache") {
      this.screen.note("(the cache is full of other texts: the answer ends here and is kept)");
    } else if (stopReason === "length" || stopReason === "repeats") {
      const why = stopReason === "repeats" ? ", the last of which repeat themselves" : "; -n allows more";
      this.screen.note(`(ended after ${grouped(generatedTokens)} tokens${why})`);
    } else if (said.text.trim() === "") this.screen.note("(no answer)");
    else if (used > NEARLY_FULL * context)
      this.screen.note(`(${grouped(used)} of the context's ${grouped(context)} tokens are used)`);
  }

  #explained(error: unknown): unknown {
    if (!(error instanceof ContextError)) return error;
    return new NibbleError(
      "context",
      `with this message the conversation has ${grouped(error.tokens)} tokens; the context holds ${grouped(error.context)}. The message was not put in, everything else is kept. ${this.#moreRoom()}`,
      { cause: error },
    );
  }

  #moreRoom(): string {
    const { context } = this.model.plan;
    const { trainedContext } = this.model.config;
    if (context >= trainedContext) return "/save keeps the conversation, /clear begins a new one.";
    return `/clear begins a new one; or /save, start again with --context (up to ${grouped(trainedContext)}), and /load.`;
  }
}

const TAKEN_BACK = "(stopped before anything was said; your message was taken back)";
