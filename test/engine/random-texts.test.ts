/**
 * Many texts at once, doing what they like: reading, going on, forking, going back, leaving, being saved. Each says, bit
 * for bit, what it says alone, and at the end every page is free or idle.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { sampler } from "../../src/engine/sample.ts";
import type { Scheduler } from "../../src/engine/scheduler.ts";
import { Text } from "../../src/engine/text.ts";
import { restoreText, saveText } from "../../src/engine/text-save.ts";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { AbortedError, ArgumentError } from "../../src/format/errors.ts";
import { pagesOf, Truth, tinyScheduler, VOCAB } from "./tiny-graph.ts";

const CONTEXT = 160;
const OWNER = { name: "tiny", fingerprint: "1", rope: "2" };

/** Of two documents, so that texts have beginnings in common. */
const DOCUMENTS = [3, 5].map((step) =>
  Array.from({ length: CONTEXT }, (_, i) => (i * step + (i >> 3)) % VOCAB),
);

const tokens = fc.integer({ min: 1, max: 70 });
const action = fc.oneof(
  fc.record({
    do: fc.constant("read" as const),
    document: fc.nat(1),
    tokens: fc.integer({ min: 1, max: 130 }),
  }),
  fc.record({ do: fc.constantFrom("sync" as const, "each" as const), tokens, seed: fc.nat(3) }),
  fc.record({
    do: fc.constant("generate" as const),
    tokens: fc.integer({ min: 1, max: 40 }),
    seed: fc.nat(3),
    leaves: fc.option(fc.nat(10)),
  }),
  fc.record({ do: fc.constant("abort" as const), tokens, turns: fc.nat(3) }),
  fc.record({ do: fc.constant("fork" as const) }),
  fc.record({ do: fc.constant("rewind" as const), part: fc.double({ min: 0, max: 1, noNaN: true }) }),
  fc.record({ do: fc.constantFrom("save" as const, "restore" as const) }),
  fc.record({ do: fc.constant("rest" as const), turns: fc.nat(4) }),
);
type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

const turns = async (count: number) => {
  for (let i = 0; i < count; i++) await new Promise(setImmediate);
};

/** Bit for bit; toEqual would take most of the test's time. */
function expectSame(found: Float32Array, wanted: Float32Array): void {
  if (found.some((value, i) => value !== wanted[i])) expect(found).toEqual(wanted);
}

async function run(
  scheduler: Scheduler,
  truth: Truth,
  actions: readonly Action[],
  files: Uint8Array[],
): Promise<void> {
  let text = new Text(scheduler);
  /** Never longer than the context. */
  const longer = (count: number, seed: number) => {
    const all = [...text.ids];
    for (let i = 0; i < count && all.length < CONTEXT; i++) all.push((i * (seed + 2) + seed) % VOCAB);
    return all;
  };
  for (const one of actions) {
    switch (one.do) {
      case "read": {
        const ids = DOCUMENTS[one.document].slice(0, one.tokens);
        await text.read(ids);
        expect(text.ids).toEqual(ids);
        break;
      }
      case "sync": {
        const ids = longer(one.tokens, one.seed);
        const { logits } = await text.sync(ids);
        expectSame(logits, await truth.after(ids));
        break;
      }
      case "each": {
        const all = longer(one.tokens, one.seed);
        let count = text.ids.length;
        for await (const logits of text.each(all.slice(count)))
          expectSame(logits, await truth.after(all.slice(0, ++count)));
        expect(text.ids).toEqual(all);
        break;
      }
      case "generate": {
        const prompt = longer(1, one.seed);
        const sample = sampler({ temperature: 1.5, topK: 0, minP: 0, seed: one.seed });
        const wanted = await truth.generated(prompt, one.tokens, sample.next);
        const generation = text.generate(prompt, sample, { most: one.tokens });
        const found: number[] = [];
        try {
          while (found.length < (one.leaves ?? wanted.length)) {
            const token = await generation.next();
            if (!token) break;
            found.push(token.id);
          }
        } finally {
          generation.end();
        }
        expect(found).toEqual(wanted.slice(0, found.length));
        if (one.leaves === null && generation.ending !== "cache") expect(found).toEqual(wanted);
        expect([...prompt, ...found].slice(0, text.ids.length)).toEqual(text.ids);
        break;
      }
      case "abort": {
        const controller = new AbortController();
        const ids = longer(one.tokens, 7);
        const reading = text.read(ids, { signal: controller.signal }).catch((error: unknown) => {
          expect(error).toBeInstanceOf(AbortedError);
        });
        await turns(one.turns);
        controller.abort();
        await reading;
        expect(ids.slice(0, text.ids.length)).toEqual(text.ids);
        break;
      }
      case "fork":
        text = text.fork();
        break;
      case "rewind":
        text.rewind(Math.floor(one.part * text.ids.length));
        break;
      case "save": {
        const pieces: Uint8Array[] = [];
        try {
          for await (const piece of saveText(scheduler, OWNER, text.ids)) pieces.push(piece);
          files.push(Buffer.concat(pieces));
        } catch (error) {
          // Others have needed its pages.
          expect(error).toBeInstanceOf(ArgumentError);
        }
        break;
      }
      case "restore": {
        const file = files.pop();
        if (file) await restoreText(scheduler, OWNER, bufferSource("saved", file));
        break;
      }
      case "rest":
        await turns(one.turns);
    }
  }
}

describe("texts that do what they like", () => {
  const program = fc.record({
    texts: fc.integer({ min: 1, max: 4 }),
    cacheTokens: fc.constantFrom(CONTEXT, 224, 640),
    chunk: fc.constantFrom(5, 24, 70),
    windows: fc.constantFrom<(number | null)[]>([null, 20], [null, null], [null, 40, 20], [33]),
    /** Tokens before a page is packed; null: none is. */
    recent: fc.option(fc.constantFrom(32, 70), { nil: undefined }),
    /** Of recurrent states, for each text and for all; null: the graph has none. */
    slots: fc.option(fc.tuple(fc.integer({ min: 2, max: 4 }), fc.constantFrom(0, 1, 6))),
    clients: fc.array(fc.array(action, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 5 }),
  });

  it("say what each says alone, and leave all pages free or idle", async () => {
    await fc.assert(
      fc.asyncProperty(program, async ({ clients, slots, ...options }) => {
        const stateSlots = slots ? slots[0] * options.texts + slots[1] : undefined;
        const truth = new Truth({
          context: CONTEXT,
          windows: options.windows,
          stateSlots: slots ? 2 : undefined,
        });
        const scheduler = await tinyScheduler({ ...options, context: CONTEXT, stateSlots });
        const files: Uint8Array[] = [];
        await Promise.all(clients.map((actions) => run(scheduler, truth, actions, files)));
        await turns(2);
        expect(scheduler.activity).toEqual({ running: 0, waiting: 0 });
        expect(pagesOf(scheduler).used).toBe(0);
      }),
      { numRuns: 60, timeout: 20_000, interruptAfterTimeLimit: 90000 },
    );
  }, 110_000);
});

it("a text is restored once there are pages of its own, also where others keep the same beginning", async () => {
  const scheduler = await tinyScheduler({ context: CONTEXT, cacheTokens: CONTEXT });
  const [document] = DOCUMENTS;
  await new Text(scheduler).read(document.slice(0, 33));
  const pieces: Uint8Array[] = [];
  for await (const piece of saveText(scheduler, OWNER, document.slice(0, 33))) pieces.push(piece);
  await new Text(scheduler).read(document.slice(0, 97));
  // Four of five pages.
  const { release } = scheduler.keep(document.slice(0, 97));
  let isRestored = false;
  const restoring = restoreText(scheduler, OWNER, bufferSource("saved", Buffer.concat(pieces)));
  restoring.then(() => {
    isRestored = true;
  });
  await turns(5);
  expect(isRestored).toBe(false);
  release();
  expect(await restoring).toHaveLength(33);
});
