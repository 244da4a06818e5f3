/** Several models on demand: who waits, who is closed, and what happens when several things happen at once. Loads are scripted. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { Metrics } from "../../src/app/api/metrics.ts";
import type { ModelFacts } from "../../src/app/api/model-facts.ts";
import { OnDemand, type Opening } from "../../src/app/api/on-demand.ts";
import type { Served } from "../../src/app/api/served.ts";
import { AbortedError, FormatError } from "../../src/index.ts";

/** However long it takes on a busy machine. */
const until = (check: () => void) => vi.waitFor(check, { timeout: 50_000, interval: 5 });

interface Load {
  opening: Opening;
  /** Ends it: with the model, or with an error. */
  done(error?: Error): void;
}

/** Bytes of each model by name; `limit` of all. Loads end by themselves unless `isSlow`. */
function scripted(
  sizes: Readonly<Record<string, number>>,
  { limit = 10, keepMs = Number.POSITIVE_INFINITY, isSlow = false, mostWaiting = 8 } = {},
) {
  const log: string[] = [];
  const loads: Load[] = [];
  const models = new OnDemand({
    sources: Object.keys(sizes).map((name) => ({ names: [name], created: 1, fileBytes: 1, source: name })),
    shared: {
      metrics: new Metrics(),
      mostBodyBytes: 1,
      unknownField() {},
      log: (error) => log.push(`${error}`),
    },
    ...{ keepMs, mostWaiting },
    async open({ source }, opening) {
      const ended = new Promise<void>((resolve, reject) => {
        loads.push({ opening, done: (error) => (error ? reject(error) : resolve()) });
      });
      log.push(`open ${source}`);
      await opening.room(sizes[source], limit);
      log.push(`allocate ${source}`);
      if (isSlow) await ended;
      const served = { names: [source], failure: null, hold: opening.hold } as unknown as Served;
      const facts = { context: 1, totalBytes: 1 } as ModelFacts;
      return { served, facts, close: async () => void log.push(`close ${source}`) };
    },
    look: async () => ({ config: null, template: null, sampling: {}, pooling: null }),
  });
  const never = new AbortController().signal;
  /** A request that uses the model until it is told to end. */
  const use = (name: string, signal = never, keepMs?: number) => {
    let end = () => {};
    let isThere = false;
    const over = new Promise<void>((resolve) => {
      end = resolve;
    });
    const result = models.use({ name, signal, keepMs }, async (served) => {
      isThere = true;
      await over;
      return served;
    });
    result.catch(() => {});
    return { result, end, there: () => until(() => expect(isThere).toBe(true)), isThere: () => isThere };
  };
  const once = async (name: string) => {
    const used = use(name);
    used.end();
    return used.result;
  };
  const states = () => Object.fromEntries(models.models.map(({ names, state }) => [names[0], state]));
  const began = (count: number) => until(() => expect(loads).toHaveLength(count));
  return { models, log, loads, use, once, states, began };
}

/** All that can go on without anything from outside has done so. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

let open: OnDemand | null = null;
afterEach(() => open?.close());

describe("requests for models that are not loaded", () => {
  it("share one load", async () => {
    const { models, log, loads, use, began, states } = scripted({ a: 1 }, { isSlow: true });
    open = models;
    const [first, second] = [use("a"), use("a")];
    await began(1);
    expect(states()).toEqual({ a: "loading" });
    loads[0].done();
    await Promise.all([first.there(), second.there()]);
    first.end();
    second.end();
    expect(await first.result).toBe(await second.result);
    expect(log).toEqual(["open a", "allocate a"]);
    expect(states()).toEqual({ a: "loaded" });
  });

  it("leave without ending the load for others; the last one ends it, and who comes then has a load of its own", async () => {
    const { models, log, loads, use, began } = scripted({ a: 1 }, { isSlow: true });
    open = models;
    const [first, second] = [new AbortController(), new AbortController()];
    const used = [use("a", first.signal), use("a", second.signal)];
    await began(1);
    first.abort();
    await expect(used[0].result).rejects.toThrow(AbortedError);
    expect(loads[0].opening.signal.aborted).toBe(false);
    second.abort();
    expect(loads[0].opening.signal.aborted).toBe(true);
    const third = use("a");
    loads[0].done(new AbortedError("loading"));
    await began(2);
    loads[1].done();
    third.end();
    await third.result;
    expect(log.filter((line) => line === "open a")).toHaveLength(2);
  });

  it("hear why it failed, all of them; the next one tries again, and others are served", async () => {
    const { models, loads, use, began, states, once } = scripted({ a: 1, b: 1 }, { isSlow: true });
    open = models;
    const used = [use("a"), use("a")];
    await began(1);
    loads[0].done(new FormatError("a.gguf", "nothing of use"));
    for (const { result } of used)
      await expect(result).rejects.toMatchObject({ status: 400, message: expect.stringContaining("a.gguf") });
    expect(states()).toEqual({ a: "failed", b: "unloaded" });
    const other = once("b");
    await began(2);
    loads[1].done();
    await other;
    const again = once("a");
    await began(3);
    loads[2].done();
    await again;
    expect(states()).toEqual({ a: "loaded", b: "loaded" });
  });

  it("are refused where too many wait, and where the name is not known", async () => {
    const { models, loads, use, began } = scripted({ mistral: 1, qwen: 1 }, { isSlow: true, mostWaiting: 1 });
    open = models;
    const first = use("qwen");
    await began(1);
    await expect(use("qwen").result).rejects.toMatchObject({ status: 503, code: "queue_full" });
    await expect(use("qwen3").result).rejects.toMatchObject({ status: 404, message: /near to it: "qwen"$/ });
    loads[0].done();
    first.end();
    await first.result;
  });
});

describe("room for a model", () => {
  it("is that of the least recently used ones that nobody holds", async () => {
    const { models, log, once, use, states } = scripted({ a: 4, b: 4, c: 4, d: 6 });
    open = models;
    await once("a");
    await once("b");
    await once("a");
    await once("c");
    expect(log).toEqual(["open a", "allocate a", "open b", "allocate b", "open c", "close b", "allocate c"]);
    const held = use("a");
    await held.there();
    await once("d");
    expect(states()).toEqual({ a: "loaded", b: "unloaded", c: "unloaded", d: "loaded" });
    held.end();
  });

  it("is waited for while answers run; who asks for such a model then waits behind the load", async () => {
    const { models, log, use, states, began } = scripted({ a: 6, b: 6 });
    open = models;
    const running = use("a");
    await running.there();
    // An answer that goes on when its request was answered.
    const letGo = (
      await models.use({ name: "a", signal: new AbortController().signal }, async (served) => served)
    ).hold!();
    const b = use("b");
    await began(2);
    await settled();
    running.end();
    await running.result;
    const later = use("a");
    await settled();
    expect([b.isThere(), later.isThere()]).toEqual([false, false]);
    expect(log).toEqual(["open a", "allocate a", "open b"]);
    letGo();
    letGo();
    await b.there();
    expect(later.isThere()).toBe(false);
    expect(states()).toEqual({ a: "loading", b: "loaded" });
    b.end();
    await later.there();
    expect(log.slice(3)).toEqual(["close a", "allocate b", "open a", "close b", "allocate a"]);
    later.end();
  });

  it("is not needed any more when nobody waits: models that were to be closed go on", async () => {
    const { models, log, use, began } = scripted({ a: 6, b: 6 });
    open = models;
    const running = use("a");
    await running.there();
    const gone = new AbortController();
    const b = use("b", gone.signal);
    await began(2);
    await settled();
    const later = use("a");
    gone.abort();
    await expect(b.result).rejects.toThrow(AbortedError);
    await later.there();
    running.end();
    later.end();
    expect(log).toEqual(["open a", "allocate a", "open b"]);
  });
});

describe("a model that is loaded", () => {
  it("is closed when it was not used for a time, or at once where that is asked", async () => {
    const { models, log, use, once, states } = scripted({ a: 1, b: 1 }, { keepMs: 1 });
    open = models;
    await once("a");
    await until(() => expect(states()).toMatchObject({ a: "unloaded" }));
    const b = use("b", undefined, 0);
    await b.there();
    expect(models.find("b")!.expires).not.toBeNull();
    b.end();
    await b.result;
    await until(() => expect(log).toContain("close b"));
    const kept = use("a", undefined, Number.POSITIVE_INFINITY);
    kept.end();
    await kept.result;
    expect(models.find("a")!.expires).toBeNull();
    await models.unload(models.find("a")!);
    expect(states()).toEqual({ a: "unloaded", b: "unloaded" });
  });

  it("is loaded anew when its device is lost", async () => {
    const { models, log, use, once } = scripted({ a: 1 });
    open = models;
    const first = use("a");
    await first.there();
    first.end();
    (await first.result).failure = "the GPU is gone";
    // Told by the last one that uses it.
    await once("a");
    await once("a");
    expect(log).toEqual(["open a", "allocate a", "close a", "open a", "allocate a"]);
  });
});

it("a model that need not make room after all goes on while the other is loaded", async () => {
  const { models, loads, use, began, once } = scripted({ a: 3, b: 3, c: 6 }, { isSlow: true });
  open = models;
  const [a, b] = [use("a"), use("b")];
  await began(1);
  loads[0].done();
  await began(2);
  loads[1].done();
  await Promise.all([a.there(), b.there()]);
  const c = use("c");
  await began(3);
  await settled();
  // Of the two only the one used longest ago has to go; the other one ends first.
  b.end();
  await b.result;
  await until(() => expect(models.find("b")!.state).toBe("unloaded"));
  await once("a");
  a.end();
  loads[2].done();
  c.end();
  await c.result;
});

describe("the end", () => {
  it("begins with a refusal for those who wait, and leaves those who have a model", async () => {
    const { models, loads, use, began } = scripted({ a: 1, b: 1 }, { isSlow: true });
    open = models;
    const a = use("a");
    await began(1);
    loads[0].done();
    await a.there();
    const b = use("b");
    await began(2);
    models.stop();
    await expect(b.result).rejects.toThrow(AbortedError);
    loads[1].done(new AbortedError("loading"));
    a.end();
    expect((await a.result).names).toEqual(["a"]);
    expect(models.find("a")!.state).toBe("loaded");
  });

  it("ends a load and who waits for it, and closes all, also what was loaded in spite of it", async () => {
    const { models, log, loads, use, began } = scripted({ a: 1, b: 1, c: 1 }, { isSlow: true });
    const a = use("a");
    await began(1);
    loads[0].done();
    await a.there();
    const waiting = [use("b"), use("c")];
    await began(2);
    const closed = models.close();
    for (const { result } of waiting) await expect(result).rejects.toThrow(AbortedError);
    expect(loads[1].opening.signal.aborted).toBe(true);
    loads[1].done();
    await closed;
    expect(log.filter((line) => line.startsWith("close")).sort()).toEqual(["close a", "close b"]);
    await expect(use("a").result).rejects.toThrow(AbortedError);
    expect(loads).toHaveLength(2);
    a.end();
  });
});
