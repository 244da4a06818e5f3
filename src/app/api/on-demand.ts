/**
 * Several models, each loaded when it is asked for, and closed when it was not used for a time or when another
 * needs its memory. One idea: a request that uses a model holds it, and one
 * that is held is never closed. Loads come one after the other, in the order in which they were asked for; requests for a
 * model that has to make room wait for the load that needs it, so that no model waits for ever.
 */
import { AbortedError, type LoadProgress, NibbleError, throwIfAborted } from "../../index.ts";
import { bytes as inBytes } from "../../plot/numbers.ts";
import { ApiError } from "./errors.ts";
import { loadError, unknownModel } from "./load-errors.ts";
import type { ModelFacts } from "./model-facts.ts";
import {
  type Asked,
  type Look,
  lookAt,
  type ModelState,
  type Offered,
  type OfferedModel,
  type Shared,
} from "./offered.ts";
import type { Served } from "./served.ts";

/** A model on the disk. */
export interface ModelSource extends Pick<OfferedModel, "names" | "created" | "fileBytes"> {
  /** What `load` takes. */
  readonly source: string;
}

/** How a load affects the other models. */
export interface Opening {
  readonly signal: AbortSignal;
  /**
   * Before anything is allocated: resolves when this model's `bytes`, of all its parts so far, and those of all others are no
   * more than `limitBytes`. The highest of a load's limits holds.
   */
  room(bytes: number, limitBytes: number): Promise<void>;
  progress(progress: LoadProgress): void;
  /** For `Served.hold`. */
  hold(): () => void;
}

export interface Opened {
  readonly served: Served;
  readonly facts: ModelFacts;
  close(): Promise<void>;
}

export interface OnDemandOptions {
  readonly sources: readonly ModelSource[];
  readonly shared: Shared;
  /** How long a model stays that is not used; Infinity: for ever. */
  readonly keepMs: number;
  /** Requests that may wait for models. */
  readonly mostWaiting: number;
  open(source: ModelSource, opening: Opening): Promise<Opened>;
  /** Describes a model that is not loaded. */
  look(source: ModelSource): Promise<Look>;
  /** Called at each load and each end of a model. */
  note?(line: string): void;
}

interface Waiter {
  grant(): void;
  refuse(error: unknown): void;
}

/** A longer time counts as for ever: timers cannot be longer. */
const LONGEST_MS = 2 ** 31 - 1;

class OneModel implements OfferedModel {
  opened: Opened | null = null;
  /** Requests and answers that use it. */
  holds = 0;
  /** Requests that wait until it is loaded. */
  readonly waiters = new Set<Waiter>();
  /** Ends its load. */
  stop: AbortController | null = null;
  /** Set while it is being closed. */
  ending: Promise<void> | null = null;
  /** Allocated, or about to be. */
  bytes = 0;
  /** Another model needs its memory: it is closed as soon as no request holds it. */
  isLeaving = false;
  /** The higher, the later it was used. */
  usedAt = 0;
  idleSince = 0;
  timer: ReturnType<typeof setTimeout> | undefined;
  progress: LoadProgress | null = null;
  problem: string | null = null;
  facts: ModelFacts | null = null;

  constructor(
    readonly source: ModelSource,
    public keepMs: number,
    readonly lookInto: (source: ModelSource) => Promise<Look>,
  ) {}

  get names() {
    return this.source.names;
  }

  get created(): number {
    return this.source.created;
  }

  get fileBytes(): number | null {
    return this.source.fileBytes;
  }

  get served(): Served | null {
    return this.opened?.served ?? null;
  }

  get state(): ModelState {
    if (this.opened) return "loaded";
    if (this.ending) return "unloading";
    // A load in the queue counts as begun.
    if (this.stop || this.waiters.size > 0) return "loading";
    return this.problem === null ? "unloaded" : "failed";
  }

  get expires(): number | null {
    if (!this.opened || this.keepMs > LONGEST_MS) return null;
    return (this.holds > 0 ? Date.now() : this.idleSince) + this.keepMs;
  }

  async look(): Promise<Look> {
    return this.opened ? lookAt(this.opened.served) : this.lookInto(this.source);
  }
}

export class OnDemand implements Offered {
  readonly shared: Shared;
  readonly models: readonly OneModel[];
  readonly failure = null;
  readonly #options: OnDemandOptions;
  readonly #byName: ReadonlyMap<string, OneModel>;
  /** Models to load. */
  readonly #queue: OneModel[] = [];
  /** Set while there are models in the queue. */
  #loading: Promise<void> | null = null;
  /** Makes a load that waits for room check again. */
  #wake: () => void = () => {};
  #uses = 0;
  #isClosed = false;

  constructor(options: OnDemandOptions) {
    const { sources, shared, keepMs, look } = options;
    this.#options = options;
    this.shared = shared;
    this.models = sources.map((source) => new OneModel(source, keepMs, look));
    // If two models have the same name, the first one gets it.
    const named = [...this.models]
      .reverse()
      .flatMap((model) => model.names.map((name) => [name, model] as const));
    this.#byName = new Map(named);
  }

  find(name: string): OneModel | undefined {
    return this.#byName.get(name);
  }

  async use<T>({ name, signal, keepMs }: Asked, work: (served: Served) => Promise<T>): Promise<T> {
    const model = name === undefined ? undefined : this.find(name);
    if (!model)
      throw unknownModel(
        name,
        this.models.map(({ names }) => names[0]),
      );
    const release = await this.#take(model, signal);
    try {
      if (keepMs !== undefined) model.keepMs = keepMs;
      return await work(model.opened!.served);
    } finally {
      release();
    }
  }

  unload = async (offered: OfferedModel): Promise<void> => {
    const model = offered as OneModel;
    // A model that is loaded later stays as long as the others.
    if (!model.opened && !model.stop) return;
    model.keepMs = 0;
    if (model.opened && model.holds === 0) await this.#close(model, "as asked");
  };

  /** Ends loads and the requests that wait for them; loaded models still serve their requests. */
  stop(): void {
    this.#isClosed = true;
    for (const model of this.models) {
      for (const waiter of [...model.waiters]) waiter.refuse(new AbortedError("loading the model"));
      this.#stop(model);
    }
  }

  /** `stop`, then closes all models: nothing may use them any more. */
  async close(): Promise<void> {
    this.stop();
    await this.#loading;
    await Promise.all(this.models.map((model) => (model.opened ? this.#close(model) : model.ending)));
  }

  /** Resolves, with the end of the hold, when the model is loaded. */
  #take(model: OneModel, signal: AbortSignal): Promise<() => void> | (() => void) {
    if (this.#isClosed || signal.aborted) throw new AbortedError("loading the model");
    if (model.opened && !model.isLeaving) return this.#hold(model);
    const waiting = this.models.reduce((sum, { waiters }) => sum + waiters.size, 0);
    if (waiting >= this.#options.mostWaiting)
      throw new ApiError(503, `${waiting} requests are waiting for models to be loaded; try again later`, {
        code: "queue_full",
        headers: { "retry-after": "5" },
      });
    return new Promise((resolve, reject) => {
      const settled = () => {
        model.waiters.delete(waiter);
        signal.removeEventListener("abort", leave);
      };
      const leave = () => {
        settled();
        reject(new AbortedError("loading the model"));
        if (model.waiters.size === 0) this.#stop(model);
      };
      const waiter: Waiter = {
        // Held from now on, not from when the request continues.
        grant: () => {
          settled();
          resolve(this.#hold(model));
        },
        refuse: (error) => {
          settled();
          reject(error);
        },
      };
      signal.addEventListener("abort", leave);
      model.waiters.add(waiter);
      this.#enqueue(model);
    });
  }

  #hold(model: OneModel): () => void {
    model.holds++;
    model.usedAt = ++this.#uses;
    clearTimeout(model.timer);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      model.holds--;
      model.usedAt = ++this.#uses;
      this.#rest(model);
      this.#wake();
    };
  }

  /** It is closed later, or at once, unless someone holds it. */
  #rest(model: OneModel): void {
    const { opened, holds, keepMs } = model;
    if (!opened || holds > 0) return;
    model.idleSince = Date.now();
    // A lost GPU does not come back: the next request loads the model again.
    if (opened.served.failure !== null) void this.#close(model, opened.served.failure);
    else if (keepMs === 0) void this.#close(model, "as asked");
    else if (keepMs <= LONGEST_MS) {
      const minutes = Math.round(keepMs / 60_000);
      const why = `not used for ${minutes > 0 ? `${minutes} min` : `${keepMs / 1000} s`}`;
      model.timer = setTimeout(() => void this.#close(model, why), keepMs);
      model.timer.unref?.();
    }
  }

  /** Models that did not have to make room after all stay. */
  #spare(): void {
    for (const model of this.models) {
      model.isLeaving = false;
      if (model.opened) this.#grant(model);
    }
  }

  #grant(model: OneModel): void {
    for (const waiter of [...model.waiters]) waiter.grant();
  }

  #stop(model: OneModel): void {
    model.stop?.abort();
    this.#wake();
  }

  #enqueue(model: OneModel): void {
    if (!this.#queue.includes(model)) this.#queue.push(model);
    this.#loading ??= this.#loadAll();
  }

  async #loadAll(): Promise<void> {
    for (let model = this.#queue.shift(); model; model = this.#queue.shift()) {
      await model.ending;
      if (!model.opened && model.waiters.size > 0) await this.#load(model);
      this.#spare();
    }
    // In the same turn of the event loop in which the queue was found empty.
    this.#loading = null;
  }

  async #load(model: OneModel): Promise<void> {
    const { open, note, shared } = this.#options;
    const [name] = model.names;
    const stop = new AbortController();
    let limit = 0;
    model.stop = stop;
    model.problem = null;
    const began = performance.now();
    note?.(`loading ${name}`);
    try {
      model.opened = await open(model.source, {
        signal: stop.signal,
        room: (bytes, limitBytes) => {
          limit = Math.max(limit, limitBytes);
          model.bytes = bytes;
          return this.#makeRoom(model, limit, stop.signal);
        },
        progress: (progress) => {
          model.progress = progress;
        },
        hold: () => this.#hold(model),
      });
      model.facts = model.opened.facts;
      shared.metrics.loaded();
      note?.(
        `loaded ${name} in ${((performance.now() - began) / 1000).toFixed(1)} s: ${describe(model.facts)}`,
      );
      this.#grant(model);
      this.#rest(model);
    } catch (error) {
      model.bytes = 0;
      if (stop.signal.aborted) {
        // Requests that came after its end are in the queue.
        note?.(`${name} was not loaded: no request waits for it`);
      } else {
        const refusal = loadError(name, error, shared.log);
        model.problem = refusal.message;
        for (const waiter of [...model.waiters]) waiter.refuse(refusal);
      }
    } finally {
      model.stop = null;
      model.progress = null;
    }
  }

  /** Closes the least recently used ones that no request holds; where that is not enough, waits for others. */
  async #makeRoom(model: OneModel, limit: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      throwIfAborted(signal, "loading the model");
      const used = this.models.reduce((sum, { bytes }) => sum + bytes, 0);
      if (used <= limit) return this.#spare();
      const ending = this.models.find((other) => other.ending !== null);
      const others = this.models.filter((other) => other.opened).sort((a, b) => a.usedAt - b.usedAt);
      const idle = others.find(({ holds }) => holds === 0);
      if (ending) await ending.ending;
      else if (idle) await this.#close(idle, `to make room for ${model.names[0]}`);
      else if (others.length === 0)
        throw new NibbleError("memory", `${inBytes(model.bytes)} are needed; there are ${inBytes(limit)}`);
      else {
        let missing = used - limit;
        for (const other of others) {
          if (missing > 0) other.isLeaving = true;
          missing -= other.bytes;
        }
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  #close(model: OneModel, why?: string): Promise<void> {
    const { opened, names } = model;
    if (!opened) return model.ending ?? Promise.resolve();
    if (why !== undefined) this.#options.note?.(`closing ${names[0]}: ${why}`);
    clearTimeout(model.timer);
    model.opened = null;
    model.keepMs = this.#options.keepMs;
    model.ending = opened
      .close()
      .catch(this.shared.log)
      .then(() => {
        model.bytes = 0;
        model.ending = null;
      });
    return model.ending;
  }
}

const describe = ({ context, totalBytes }: ModelFacts) =>
  `${context.toLocaleString("en")} tokens of context, ${inBytes(totalBytes)}`;
