/**
 * A model that says what a test wants: a scheduler over an allocation whose logits favour scripted tokens, and a
 * tokenizer whose tokens are given byte strings. Both go through the real scheduler and generation loop.
 */
import type { Allocation, Graph, Run, Sampling, Step } from "../../src/device/contract.ts";
import { CHOSEN } from "../../src/device/contract.ts";
import { wrongLogits } from "../../src/engine/finite.ts";
import { sampler } from "../../src/engine/sample.ts";
import { Scheduler } from "../../src/engine/scheduler.ts";
import { Text } from "../../src/engine/text.ts";
import { DeviceError } from "../../src/format/errors.ts";
import type { TextStream, Tokenizer } from "../../src/format/tokenizer.ts";
import { watched } from "./tiny-graph.ts";

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
  text: Text;
  scheduler: Scheduler;
  /** As they were run; CHOSEN is what it stood for. */
  steps: Step[];
  /** Copies of pages. */
  copies: { from: number; to: number }[];
  /** What was asked of the device besides steps: "read", "candidates 40", ... */
  asked: string[];
  /** Replaces the reading of a profile. */
  allocation: Allocation;
}

export interface ScriptOptions {
  vocab: number;
  context?: number;
  cacheTokens?: number;
  chunk?: number;
  outputs?: number;
  /** Of each pool. Default: one that sees all. */
  windows?: (number | null)[];
  /** Generations at once. Default 1. */
  texts?: number;
  /** Slots of recurrent states; a run over states of other ids than its text's is an error. Default: none. */
  stateSlots?: number;
  /** The device chooses, and knows its largest logits. */
  chooses?: boolean;
  /** Rows of a table are read by the ids of a step. */
  table?: boolean;
  /** It is lost when this position would be written. */
  failsAt?: number;
  /** The step at this position never ends. */
  hangsAt?: number;
  /** It cannot prove which words are kept for the token at this position. */
  unprovenAt?: number;
  /** Tokens that are guessed at once, at most. */
  guess?: number;
  stretchMs?: number;
  /** What times steps. */
  clock?: () => number;
  /** What a step takes. Default: a turn of the event loop. */
  wait?: (step: Step) => Promise<unknown>;
}

/**
 * After the tokens of a text up to `position`, the most likely next one is script(position, ids), or the next one's
 * logits are; ids: the text so far, by the tokens that were written to its pages.
 */
export function scripted(
  script: (position: number, ids: readonly number[]) => number | Float32Array,
  options: ScriptOptions,
): Script {
  const { vocab, context = 1024, chunk = 8, texts = 1, windows = [null] } = options;
  const {
    cacheTokens = texts * context,
    chooses = false,
    stateSlots = 0,
    wait = () => new Promise(setImmediate),
  } = options;
  const { outputs = texts + (options.guess ?? 0) } = options;
  const steps: Step[] = [];
  const asked: string[] = [];
  const copies: Script["copies"] = [];
  const blocks = Math.ceil(context / 32);
  const pools = windows.map((window, id) => ({ id, window, pages: Math.ceil(cacheTokens / 32) }));
  /** By page of the first pool: ids. */
  const pages = Array.from({ length: pools[0].pages }, () => new Array<number>(32).fill(-1));
  const tables = Array.from({ length: texts }, () => new Array<number>(blocks).fill(-1));
  const chosen = new Array<number>(texts).fill(0);
  /** By slot: the ids that its states come of. */
  const slots: number[][] = [];
  /** By output of the last step: position and ids in front. */
  let rows: { position: number; ids: number[] }[] = [];
  let isRunning = false;
  let isLost = false;

  const logitsOf = ({ position, ids }: (typeof rows)[number]) => {
    const found = script(position, ids);
    if (typeof found !== "number") return found.slice();
    const logits = new Float32Array(vocab);
    logits[found] = 1;
    return logits;
  };
  const before = (text: number, end: number) =>
    Array.from({ length: end }, (_, i) => pages[tables[text][i >> 5]]?.[i & 31] ?? -1);
  const write = (run: Run) => {
    run.ids.forEach((id, i) => {
      const at = run.position + i;
      pages[tables[run.text][at >> 5]][at & 31] = id;
    });
  };
  const recur = ({ text, position, ids, state }: Run) => {
    if (stateSlots === 0) return;
    const past = state!.from === null ? [] : slots[state!.from];
    if (past.join() !== before(text, position).join())
      throw new Error(`text ${text} goes on at ${position} from states of ${past.length} ids`);
    slots[state!.to] = [...past, ...ids];
  };
  const choose = (sampling: Sampling, row: (typeof rows)[number]) => {
    const { draw, ...rest } = sampling;
    return sampler(rest).next(logitsOf(row), [], draw);
  };
  const allocation: Partial<Allocation> = {
    async run(step: Step) {
      if (isRunning) throw new Error("a step is running already");
      isRunning = true;
      try {
        if (options.table && step.runs.some(({ ids }) => ids.includes(CHOSEN)))
          throw new Error("an id is not known");
        const runs = step.runs.map((run) => ({
          ...run,
          ids: run.ids.map((id) => (id === CHOSEN ? chosen[run.text] : id)),
        }));
        const touches = (position: number | undefined) =>
          position !== undefined &&
          runs.some((run) => run.position <= position && position < run.position + run.ids.length);
        isLost ||= touches(options.failsAt);
        if (isLost) throw new DeviceError("scripted", "lost");
        steps.push({ runs });
        for (const run of runs) recur(run);
        for (const run of runs) write(run);
        rows = runs.flatMap(({ text, position, ids, outputs }) =>
          Array.from({ length: outputs }, (_, i) => {
            const end = position + ids.length - outputs + i + 1;
            return { position: end, ids: before(text, end) };
          }),
        );
        let output = 0;
        const words: (number | null)[] = [];
        for (const { text, outputs, sampling } of runs) {
          const own = rows.slice(output, (output += outputs));
          if (!sampling) continue;
          for (const [i, row] of own.entries()) {
            chosen[text] = choose({ ...sampling, draw: sampling.draw + i }, row);
            const isNull = row.position === options.unprovenAt || wrongLogits(logitsOf(row), 0) !== null;
            words.push(isNull ? null : chosen[text]);
          }
        }
        const ended = wait(step);
        if (!chooses) await ended;
        const ids = ended.then(() =>
          touches(options.hangsAt) ? new Promise<(number | null)[]>(() => {}) : words,
        );
        return { chosen: chooses ? ids : Promise.resolve([]) };
      } finally {
        isRunning = false;
      }
    },
    setPages(pool, text, first, list) {
      if (pool.id !== 0) return;
      for (let i = 0; i < list.length; i++) tables[text][first + i] = list[i];
    },
    async copyPage(pool, from, to) {
      if (pool.id !== 0) return;
      copies.push({ from, to });
      pages[to] = [...pages[from]];
    },
    async read(_, first) {
      asked.push("read");
      return logitsOf(rows[first]);
    },
  };
  if (chooses)
    Object.assign(allocation, {
      canChoose: () => true,
      async candidates(row: number, count: number) {
        asked.push(`candidates ${count}`);
        const logits = logitsOf(rows[row]);
        const size = (id: number) => (Number.isNaN(logits[id]) ? Number.POSITIVE_INFINITY : logits[id]);
        const order = [...logits.keys()].sort((a, b) => size(b) - size(a) || a - b).slice(0, count);
        return { ids: Uint32Array.from(order), logits: Float32Array.from(order, (id) => logits[id]) };
      },
    });
  const graph = {
    ops: options.table ? [{ op: "lookUp", table: {} }] : [],
    caches: [],
    maxTokens: Math.max(chunk, outputs),
    maxOutputs: outputs,
    texts,
    blocks,
    pools,
    states: stateSlots > 0 ? [{ id: 0, layer: 0, values: 1 }] : [],
    stateSlots,
    logits: { id: 0, rows: "outputs", cols: vocab },
  } as unknown as Graph;
  const device = { name: "scripted", chooses };
  const watching = watched(allocation as Allocation, graph, () => scheduler);
  const scheduler: Scheduler = new Scheduler(graph, watching, device, {
    ...{ context, vocab, stretchMs: options.stretchMs, clock: options.clock, guess: options.guess },
  });
  const text = new Text(scheduler);
  return { text, scheduler, steps, copies, asked, allocation: scheduler.allocation };
}
