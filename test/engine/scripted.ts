/**
 * A model that says what a test wants: a session over an allocation whose logits favour scripted tokens, and a
 * tokenizer whose tokens are given byte strings. Both go through the real Session and generation loop.
 */
import type { Allocation, Cache, ContinueOptions, Graph, Step } from "../../src/device/contract.ts";
import { RunAhead } from "../../src/device/webgpu/run-ahead.ts";
import { NOT_PROVEN } from "../../src/device/webgpu/sample.ts";
import { sampler } from "../../src/engine/sample.ts";
import { type Session, shareSessions } from "../../src/engine/session.ts";
import { DeviceError } from "../../src/format/errors.ts";
import type { TextStream, Tokenizer } from "../../src/format/tokenizer.ts";

export const END = 0;

/** Token 0 ends; token i + 1 is pieces[i], text or raw bytes. */
export function piecesTokenizer(pieces: readonly (string | Uint8Array)[]): Tokenizer {
  const bytes = pieces.map((piece) => (typeof piece === "string" ? new TextEncoder().encode(piece) : piece));
  const none = () => {
    throw new Error("the scripted tokenizer only decodes");
  };
  const stream = (): TextStream => {
    const decoder = new TextDecoder();
    return {
      push: (id) => (id === END ? "" : decoder.decode(bytes[id - 1], { stream: true })),
      end: () => decoder.decode(),
    };
  };
  return {
    vocab: pieces.length + 1,
    endIds: new Set([END]),
    bosId: null,
    addBos: false,
    encode: none,
    slices: none,
    decode: none,
    bytes: none,
    protect: none,
    warnings: [],
    fit: none,
    controlIds: new Set([END]),
    controls: none,
    stream,
  };
}

export interface Script {
  session: Session;
  /** By timeline. */
  sessions: readonly Session[];
  steps: Step[];
  /** What was copied on the device. */
  copies: { from: number; to: number; tokens: number }[];
  /** What was asked of the device besides steps: "read", "candidates 40", "continue", ... */
  asked: string[];
}

export interface ScriptOptions {
  vocab: number;
  context?: number;
  chunk?: number;
  caches?: Pick<Cache, "window" | "capacity">[];
  /** Sessions that share the device. Default 1. */
  timelines?: number;
  /** The device generates ahead and knows its largest logits. */
  ahead?: boolean;
  /** It is lost when this position would be written. */
  failsAt?: number;
  /** The step at this position never ends. */
  hangsAt?: number;
  /** It cannot prove which words are kept for the token at this position. */
  unprovenAt?: number;
}

/**
 * After the tokens of a timeline up to `position`, the most likely next one is script(position, timeline), or the next
 * one's logits are.
 */
export function scriptedSession(
  script: (position: number, timeline: number) => number | Float32Array,
  options: ScriptOptions,
): Script {
  const { vocab, context = 1024, chunk = 8, caches = [], timelines = 1 } = options;
  const steps: Step[] = [];
  const asked: string[] = [];
  const copies: Script["copies"] = [];
  let end = 0;
  let timeline = 0;
  let isRunning = false;
  let isLost = false;
  const row = () => {
    const scripted = script(end, timeline);
    if (typeof scripted !== "number") return scripted.slice();
    const logits = new Float32Array(vocab);
    logits[scripted] = 1;
    return logits;
  };
  const run = (step: Step) => {
    isLost ||= step.position === options.failsAt;
    if (isLost) throw new DeviceError("scripted", "lost");
    steps.push(step);
    end = step.position + step.ids.length;
    timeline = step.timeline ?? 0;
  };
  const allocation = {
    async run(step: Step) {
      if (isRunning) throw new Error("a step is running already");
      isRunning = true;
      run(step);
      await new Promise(setImmediate);
      isRunning = false;
    },
    async copyCache(from: number, to: number, tokens: number) {
      copies.push({ from, to, tokens });
    },
    async read() {
      asked.push("read");
      return row();
    },
  };
  const ahead = {
    continue({ sampling, position, most, timeline = 0 }: ContinueOptions) {
      asked.push("continue");
      const { first, ...rest } = sampling;
      const sample = sampler(rest);
      for (let i = 0; i < first; i++) sample.skip();
      let last = 0;
      const start = async (at: number | null) => {
        if (at !== null) run({ ids: Uint32Array.of(last), position: at, outputs: 1, timeline });
        last = sample.next(row(), []);
        const word = end === options.unprovenAt ? NOT_PROVEN : last;
        await new Promise((resolve) => (at !== null && at === options.hangsAt) || setImmediate(resolve));
        return word;
      };
      return new RunAhead({ position, most, start });
    },
    async candidates(count: number) {
      asked.push(`candidates ${count}`);
      const logits = row();
      const order = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b).slice(0, count);
      return { ids: Uint32Array.from(order), logits: Float32Array.from(order, (id) => logits[id]) };
    },
  };
  const logits = { id: 0, rows: "outputs", cols: vocab } as const;
  const graph = { maxTokens: chunk, timelines, caches, logits };
  const sessions = shareSessions(
    graph as unknown as Graph,
    (options.ahead ? { ...allocation, ...ahead } : allocation) as unknown as Allocation,
    context,
    vocab,
  );
  return { session: sessions[0], sessions, steps, copies, asked };
}
