/**
 * Several models on demand under random events: requests that come, end and go away, loads that end, fail or are slow. Held
 * models stay, the memory is never exceeded, and every request comes to an end.
 */
import { expect, it } from "vitest";
import { Metrics } from "../../src/app/api/metrics.ts";
import type { ModelFacts } from "../../src/app/api/model-facts.ts";
import { OnDemand } from "../../src/app/api/on-demand.ts";
import type { Served } from "../../src/app/api/served.ts";
import { AbortedError, FormatError } from "../../src/index.ts";
import { random } from "../device/random-tensor.ts";

const LIMIT = 10;
const NAMES = ["a", "b", "c", "d"];

const settled = () => new Promise((resolve) => setImmediate(resolve));

async function run(seed: number): Promise<string[]> {
  const next = random(seed);
  const below = (count: number) => Math.floor(next() * count);
  const faults: string[] = [];
  const allocated = new Map<string, number>();
  const held = new Map<string, number>();
  const loads: ((error?: Error) => void)[] = [];
  let isEnding = false;
  const models = new OnDemand({
    sources: NAMES.map((name) => ({ names: [name], created: 1, fileBytes: 1, source: name })),
    shared: {
      metrics: new Metrics(),
      mostBodyBytes: 1,
      unknownField() {},
      log: (error) => faults.push(`${error}`),
    },
    ...{ keepMs: Number.POSITIVE_INFINITY, mostWaiting: 100 },
    async open({ source }, { room, signal, hold }) {
      const bytes = 2 + below(7);
      await room(bytes, LIMIT);
      if (allocated.has(source)) faults.push(`${source} is loaded twice`);
      allocated.set(source, bytes);
      const used = [...allocated.values()].reduce((sum, more) => sum + more, 0);
      if (used > LIMIT) faults.push(`${used} bytes are allocated`);
      try {
        await new Promise<void>((resolve, reject) => {
          loads.push((error) => (error ? reject(error) : resolve()));
          signal.addEventListener("abort", () => reject(new AbortedError("loading")));
        });
      } catch (error) {
        allocated.delete(source);
        throw error;
      }
      const close = async () => {
        if (!isEnding && (held.get(source) ?? 0) > 0) faults.push(`${source} is closed while it is held`);
        await settled();
        allocated.delete(source);
      };
      return { served: { failure: null, hold } as Served, facts: {} as ModelFacts, close };
    },
    look: async () => ({ config: null, template: null, sampling: {}, pooling: null }),
  });
  const ends: (() => void)[] = [];
  const results: Promise<unknown>[] = [];
  const ask = () => {
    const name = NAMES[below(NAMES.length)];
    const gone = new AbortController();
    const over = new Promise<void>((resolve) => ends.push(resolve, () => gone.abort()));
    const count = (by: number) => held.set(name, (held.get(name) ?? 0) + by);
    const keepMs = below(4) === 0 ? 0 : undefined;
    const result = models.use({ name, signal: gone.signal, keepMs }, async (served) => {
      count(1);
      await over;
      // An answer that goes on after its request.
      const letGo = served.hold!();
      ends.push(() => {
        count(-1);
        letGo();
      });
    });
    results.push(result.catch(() => {}));
  };
  const one = (list: (() => void)[]) => list.splice(below(list.length), 1)[0]?.();
  for (let i = 0; i < 60; i++) {
    const event = below(10);
    if (event < 4) ask();
    else if (event < 7) one(ends);
    else if (event < 9) one(loads);
    else loads.splice(below(loads.length), 1)[0]?.(new FormatError("x", "broken"));
    if (below(2) === 0) await settled();
  }
  // What is left to happen happens: all requests come to an end by themselves.
  let isOver = false;
  const all = Promise.all(results).then(() => {
    isOver = true;
  });
  for (let i = 0; i < 1000 && !isOver; i++) {
    for (const end of ends.splice(0)) end();
    for (const load of loads.splice(0)) load();
    await settled();
  }
  if (!isOver) faults.push("requests wait for ever");
  else await all;
  isEnding = true;
  await models.close();
  if (allocated.size > 0) faults.push(`${[...allocated.keys()]} stay allocated`);
  return faults;
}

it("random events leave held models, the bound on memory, and nobody waiting", async () => {
  for (let seed = 1; seed <= 100; seed++) expect([seed, await run(seed)]).toEqual([seed, []]);
});
