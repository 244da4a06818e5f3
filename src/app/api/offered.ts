/**
 * What a server offers: one loaded model (`alone`), or several that are loaded on demand
 * (`on-demand.ts`). One idea: a request takes its model by `use` and keeps it until its work is done; an answer that goes on
 * after that holds the model by itself (`Served.hold`).
 */
import type { ModelConfig, Pooling, SampleOptions } from "../../index.ts";
import { type ModelFacts, modelFacts } from "./model-facts.ts";
import type { Served } from "./served.ts";

/** What holds for all requests, whichever model they name. */
export type Shared = Pick<Served, "metrics" | "mostBodyBytes" | "unknownField" | "log" | "refused">;

/** failed: it could not be loaded at the last request. */
export type ModelState = "unloaded" | "loading" | "loaded" | "unloading" | "failed";

/** What a file says about its model; if it is not loaded, the file's header is read. */
export interface Look {
  readonly config: Pick<ModelConfig, "family" | "layers" | "hidden" | "trainedContext" | "name"> | null;
  /** The chat template's source. */
  readonly template: string | null;
  readonly sampling: SampleOptions;
  readonly pooling: Pooling | null;
}

export interface OfferedModel {
  /** Its names for clients: the first is reported, all are accepted. */
  readonly names: readonly [string, ...string[]];
  /** Time since which it is offered, in seconds of Unix time. */
  readonly created: number;
  /** Bytes on the disk; null: not looked at. */
  readonly fileBytes: number | null;
  readonly state: ModelState;
  /** Loaded bytes of the weights; null: not loading. */
  readonly progress: { readonly bytes: number; readonly totalBytes: number } | null;
  /** Why it could not be loaded. */
  readonly problem: string | null;
  /** null: it is not loaded. */
  readonly served: Served | null;
  /** Known once it has been loaded. */
  readonly facts: ModelFacts | null;
  /** When it is closed if it is not used, in ms of Unix time; null: never. */
  readonly expires: number | null;
  look(): Promise<Look>;
}

export interface Asked {
  /** undefined: the request names none. */
  readonly name: string | undefined;
  /** Ends requests that wait for a model to be loaded. */
  readonly signal: AbortSignal;
  /** How long it stays loaded when it is not used; default: as before. Infinity: for ever. */
  readonly keepMs?: number;
}

export interface Offered {
  readonly shared: Shared;
  readonly models: readonly OfferedModel[];
  /** Why the server cannot answer; null: it can. */
  readonly failure: string | null;
  /** The model of this name; undefined: there is none. */
  find(name: string): OfferedModel | undefined;
  /** Loads the model if necessary; it is not closed before `work` has ended. ApiError for a name that is not known. */
  use<T>(asked: Asked, work: (served: Served) => Promise<T>): Promise<T>;
  /** Closes it as soon as no answer needs it. null: this server's model always stays. */
  readonly unload: ((model: OfferedModel) => Promise<void>) | null;
}

/** One model, which stays. Names are checked where requests are read. */
export function alone(served: Served): Offered {
  const { names, created, model } = served;
  const offered: OfferedModel = {
    ...{ names, created, served, fileBytes: null, state: "loaded", progress: null, problem: null },
    expires: null,
    get facts() {
      return modelFacts(model);
    },
    look: async () => lookAt(served),
  };
  return {
    shared: served,
    models: [offered],
    get failure() {
      return served.failure;
    },
    find: (name) => (names.includes(name) ? offered : undefined),
    use: (_asked, work) => work(served),
    unload: null,
  };
}

export function lookAt({ model }: Served): Look {
  const { config, chatTemplate, sampling, embedding } = model;
  return { config, template: chatTemplate?.source ?? null, sampling, pooling: embedding.pooling };
}
