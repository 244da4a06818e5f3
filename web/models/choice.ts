/**
 * Which model answers: none yet, one of a server, or one that is being loaded or runs here. Switches from one to the
 * next: memory is freed before a model is loaded, a server that does not answer changes nothing, and a failure leaves the
 * reason and a way to try again.
 */
import { Store } from "../store.ts";
import { HereModel, type LoadAsk } from "./here.ts";
import { AnswerFailure, type ChatModel } from "./model.ts";
import { type ServerAddress, ServerChatModel, type ServerModel, serverModels } from "./server.ts";

type ChoiceStatus =
  | { readonly kind: "none" }
  | { readonly kind: "looking" }
  | { readonly kind: "loading"; readonly name: string; readonly bytes: number; readonly totalBytes: number }
  | { readonly kind: "ready" }
  | { readonly kind: "failed"; readonly message: string; readonly wantsKey: boolean };

export interface Choice {
  readonly model: ChatModel | null;
  readonly status: ChoiceStatus;
  /** The server of the model does not answer any more. */
  readonly isGone: boolean;
  /** Models of the server that was tried last. */
  readonly offered: readonly ServerModel[];
}

/** Interval of checks whether a server is there. */
const LOOK_MS = 10_000;

export class ModelChoice extends Store<Choice> {
  #stop = new AbortController();
  /** What `again` repeats. */
  #last: (() => Promise<void>) | null = null;

  constructor() {
    super({ model: null, status: { kind: "none" }, isGone: false, offered: [] });
    setInterval(() => document.hidden || this.look(), LOOK_MS);
    for (const event of ["online", "offline", "focus"]) addEventListener(event, () => this.look());
  }

  /** Checks whether the model's server still answers. */
  async look(): Promise<void> {
    const { model } = this.state;
    const isGone = model?.isThere ? !(await model.isThere(AbortSignal.timeout(LOOK_MS))) : false;
    if (this.state.model === model && this.state.isGone !== isGone) this.set({ isGone });
  }

  /** Takes the server's model of that id, or its first. `isQuiet`: a server that is not there is no failure. */
  connect(server: ServerAddress, id = "", isQuiet = false): Promise<void> {
    return this.#change(async (signal) => {
      this.set({ status: { kind: "looking" } });
      const offered = await serverModels(server, signal);
      const found =
        offered.find((model) => model.id === id) ??
        offered.find(({ state }) => state === "loaded") ??
        offered[0];
      if (!found) throw new AnswerFailure("other", `${server.url} has no model.`);
      if (signal.aborted) return;
      this.#leave();
      this.set({ offered, ...ready(new ServerChatModel(server, found)) });
    }, isQuiet);
  }

  /** Loads into this browser. */
  run(ask: LoadAsk): Promise<void> {
    return this.#change(async (signal) => {
      const show = (bytes: number, totalBytes: number) =>
        this.set({ status: { kind: "loading", name: ask.name, bytes, totalBytes } });
      this.#leave();
      show(0, 0);
      const model = await HereModel.load(ask, show, signal);
      if (signal.aborted) {
        model.close();
        throw new AnswerFailure("stopped", "Stopped.");
      }
      this.set(ready(model));
    });
  }

  /** The way out of a failure. */
  async again(): Promise<void> {
    await this.#last?.();
  }

  /** Ends a loading. */
  cancel(): void {
    this.#stop.abort();
  }

  /** The model has failed for good. */
  lose(message: string): void {
    this.#leave();
    this.set({ status: { kind: "failed", message, wantsKey: false } });
  }

  #leave(): void {
    this.state.model?.close();
    this.set({ model: null, isGone: false });
  }

  async #change(work: (signal: AbortSignal) => Promise<void>, isQuiet = false): Promise<void> {
    this.#stop.abort();
    const stop = new AbortController();
    this.#stop = stop;
    this.#last = () => this.#change(work);
    try {
      await work(stop.signal);
    } catch (error) {
      if (this.#stop !== stop) return;
      const { kind, message } = error as AnswerFailure;
      const isNone = isQuiet || kind === "stopped";
      const none = { kind: this.state.model ? "ready" : "none" } as const;
      this.set({ status: isNone ? none : { kind: "failed", message, wantsKey: kind === "key" } });
    }
  }
}

function ready(model: ChatModel): Partial<Choice> {
  return { model, isGone: false, status: { kind: "ready" } };
}
