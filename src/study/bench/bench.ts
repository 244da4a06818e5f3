/**
 * Speed of a text in llama-bench's rows: prompt tokens (`pp512`) and generated tokens (`tg128`) per second, at depths
 * that are filled with tokens that were really processed; and the time of each operation, on devices that can measure
 * it. The text is a fixed prefix with a new tail for each repetition, so that pages keep the prefix and the next depth
 * continues where the last one ended. If a sliding layer has lost the prefix, it is filled again.
 */
import type { StepProfile } from "../../device/contract.ts";
import { median } from "../../device/median.ts";
import { sampler } from "../../engine/sample.ts";
import type { Scheduler } from "../../engine/scheduler.ts";
import { Text } from "../../engine/text.ts";
import { ArgumentError, throwIfAborted, UnsupportedError } from "../../format/errors.ts";
import { depthSuffix as at, type BatchRow, benchBatch } from "./bench-batch.ts";
import { benchQuote, QUOTE_DEPTH, type QuoteRow } from "./bench-quote.ts";
import type { BenchTests } from "./bench-tests.ts";

/** The test of a bench that is running. */
export interface BenchProgress {
  /** "warming up", "filling 32768 tokens", "pp512 @ d32768", ... */
  readonly doing: string;
  /** Tokens. */
  readonly done: number;
  readonly total: number;
}

/** Options of a bench: tests, repetitions. */
export interface BenchOptions extends BenchTests {
  onProgress?: (progress: BenchProgress) => void;
  /** Stops the bench; it then rejects with AbortedError. */
  signal?: AbortSignal;
}

/** One test at one depth. */
export interface BenchRow {
  readonly kind: "row";
  /** llama-bench's name: "pp512", "tg128 @ d32768". */
  readonly test: string;
  readonly tokens: number;
  readonly depth: number;
  /** By repetition. A prompt ends with the logits after its last token, a generation with its last token. */
  readonly ms: readonly number[];
  readonly tokensPerSecond: { readonly median: number; readonly min: number; readonly max: number };
}

/**
 * Dispatches of one operation that move the same number of bytes: the matrices of one shape, the layers of one window.
 */
export interface OperationProfile {
  readonly label: string;
  readonly dispatches: number;
  readonly us: number;
  /** Share of the time of all operations. */
  readonly share: number;
  /** Bytes of weights and cache, all dispatches together; 0: they move activations only. */
  readonly bytes: number;
}

/** One step by operation, longest first. */
export interface BenchProfile extends Pick<StepProfile, "us" | "readBytesPerSecond" | "copyBytesPerSecond"> {
  readonly kind: "profile";
  /** "decode", "prompt chunk of 512 @ d32768". */
  readonly step: string;
  readonly tokens: number;
  readonly depth: number;
  readonly operations: readonly OperationProfile[];
}

const WARM_UP_GENERATED = 16;
/** Warm-up time of a device with a clock of its own, which is a GPU. */
const WARM_UP_MS = 500;

/**
 * Tests with their defaults, depths ascending, no duplicates. Throws ArgumentError for invalid counts, or if there are
 * no tests.
 */
export function benchTests(tests: BenchTests): Required<BenchTests> {
  const { prompt = [512], generate = [128], depth = [0], repetitions = 3, profile = false } = tests;
  const { parallel = [], quote = "" } = tests;
  for (const [name, lengths] of Object.entries({ prompt, generate, parallel }))
    for (const found of lengths)
      if (!(Number.isInteger(found) && found >= 1))
        throw new ArgumentError(name, found, "integers from 1 on");
  for (const found of depth)
    if (!(Number.isInteger(found) && found >= 0))
      throw new ArgumentError("depth", found, "integers from 0 on");
  if (!(Number.isInteger(repetitions) && repetitions >= 1))
    throw new ArgumentError("repetitions", repetitions, "integers from 1 on");
  if (prompt.length + generate.length === 0)
    throw new ArgumentError("generate", "empty, and so is prompt", "a length of one of them");
  if (profile && parallel.length > 0)
    throw new ArgumentError("profile", "asked for, and so is parallel", "one of them");
  if (quote !== "" && (parallel.length > 0 || profile || generate.every((tokens) => tokens < 2)))
    throw new ArgumentError(
      "quote",
      "a text",
      "none with parallel or profile, or without generations of 2 tokens",
    );
  if (depth.length === 0) throw new ArgumentError("depth", "empty", "at least one");
  const depths = [...new Set(depth)].sort((a, b) => a - b);
  return {
    prompt: [...new Set(prompt)],
    generate: [...new Set(generate)],
    depth: depths,
    repetitions,
    profile,
    parallel: [...new Set(parallel)],
    quote,
  };
}

/** Maximum tokens that the tests add at each depth. */
export function benchTail({ prompt, generate, parallel, quote }: Required<BenchTests>): number {
  if (quote !== "") return QUOTE_DEPTH + Math.max(...generate);
  if (parallel.length === 0) return Math.max(...prompt, ...generate);
  return Math.max(0, ...prompt) + Math.max(0, ...generate);
}

/** Throws UnsupportedError if a profile is requested on a device that cannot measure it. */
export function checkProfile({ allocation }: Scheduler, { profile }: BenchTests): void {
  if (profile && !allocation.profile)
    throw new UnsupportedError(
      "A profile on this device",
      "Only a GPU has a clock of its own for each operation.",
    );
}

/** A row of a bench, or why there is none. */
export type BenchFinding = BenchRow | BenchProfile | BatchRow | QuoteRow;

/**
 * Runs the tests; results are returned as soon as they are known. The scheduler must not be used by others. quoting:
 * the prompt of `quote`'s rows (quotePrompt).
 */
export async function* bench(
  scheduler: Scheduler,
  options: BenchOptions = {},
  quoting: readonly number[] = [],
): AsyncGenerator<BenchFinding> {
  const { signal } = options;
  const tests = benchTests(options);
  checkProfile(scheduler, tests);
  const { vocab } = scheduler;
  const deepest = tests.depth[tests.depth.length - 1];
  const random = randomIds(vocab);
  const text = new Text(scheduler);
  const prefix = Array.from({ length: deepest }, random);
  const report = (doing: string, total: number) => (done: number) =>
    options.onProgress?.({ doing, done, total });

  if (quoting.length > 0) return yield* benchQuote(scheduler, quoting, tests, { report, signal });

  /** Extends or cuts the text to `depth` tokens. */
  const hold = async (depth: number) => {
    if (depth === 0) return text.rewind(0);
    const onProgress = report(`filling ${depth} tokens`, depth);
    const ids = prefix.slice(0, depth);
    const reused = await text.read(ids, { signal, onProgress });
    // A fill resolves with its last steps under way, which the next test would wait for; logits are there when all has run.
    if (reused < depth) await text.sync(ids, { signal });
  };
  /** First tokens of tails, by depth: pages may still hold tails that began with them. */
  const begun = new Map<number, Set<number>>();
  /** The prefix and `count` more tokens that no text had there before. */
  const withTail = (depth: number, count: number): number[] => {
    const ids = prefix.slice(0, depth);
    for (let i = 0; i < count; i++) ids.push(random());
    const known = begun.get(depth) ?? new Set([prefix[depth]]);
    begun.set(depth, known);
    if (known.size >= vocab) known.clear();
    while (known.has(ids[depth])) ids[depth] = (ids[depth] + 1) % vocab;
    known.add(ids[depth]);
    return ids;
  };
  const prompt = async (depth: number, count: number, onProgress: (tokens: number) => void) => {
    const ids = withTail(depth, count);
    const started = performance.now();
    await text.sync(ids, { signal, onProgress });
    return performance.now() - started;
  };
  /** Greedy, like generate.ts: `count` steps, the first with a random token, and the same number of choices. */
  const generate = async (depth: number, count: number, onProgress: (tokens: number) => void) => {
    const ids = withTail(depth, 1);
    const started = performance.now();
    const tokens = text.generate(ids, sampler({ temperature: 0, seed: 0 }), {
      most: count,
      guess: false,
      signal,
    });
    try {
      for (let made = 1; ; made++) {
        throwIfAborted(signal, "the bench");
        await tokens.next();
        onProgress(made);
        if (made === count) return performance.now() - started;
      }
    } finally {
      tokens.end();
    }
  };

  const kinds = [
    { name: "pp", counts: tests.prompt, once: prompt },
    { name: "tg", counts: tests.generate, once: generate },
  ];
  // Kernels are compiled and clocks are up before anything is timed: an idle GPU takes half a second to raise them.
  const warming = report("warming up", benchTail(tests));
  const until = performance.now() + (scheduler.allocation.profile ? WARM_UP_MS : 0);
  do {
    if (tests.prompt.length > 0) await prompt(0, Math.max(...tests.prompt), warming);
    if (tests.generate.length > 0)
      await generate(0, Math.min(WARM_UP_GENERATED, Math.max(...tests.generate)), warming);
  } while (performance.now() < until);

  for (const depth of tests.depth) {
    if (tests.parallel.length > 0) {
      yield* benchBatch(scheduler, depth, tests, { random, report, signal });
      continue;
    }
    for (const { name, counts, once } of kinds)
      for (const count of counts) {
        const test = `${name}${count}${at(depth)}`;
        const onProgress = report(test, tests.repetitions * count);
        const ms: number[] = [];
        for (let i = 0; i < tests.repetitions; i++) {
          await hold(depth);
          ms.push(await once(depth, count, (tokens) => onProgress(i * count + tokens)));
        }
        const speeds = ms.map((time) => (count * 1000) / time);
        const tokensPerSecond = {
          median: median(speeds),
          min: Math.min(...speeds),
          max: Math.max(...speeds),
        };
        yield { kind: "row", test, tokens: count, depth, ms, tokensPerSecond };
      }
    if (!tests.profile) continue;
    const steps: { name: string; tokens: number }[] = [];
    if (tests.generate.length > 0) steps.push({ name: "decode", tokens: 1 });
    const chunk = Math.min(scheduler.graph.maxTokens, Math.max(0, ...tests.prompt));
    if (chunk > 0) steps.push({ name: `prompt chunk of ${chunk}`, tokens: chunk });
    for (const { name, tokens } of steps) {
      const step = `${name}${at(depth)}`;
      report(`profile of ${step}`, tokens)(0);
      await hold(depth);
      const profile = await text.profile(withTail(depth, tokens).slice(depth), { signal });
      yield { kind: "profile", step, tokens, depth, ...profile, operations: byOperation(profile) };
    }
  }
}

function byOperation({ dispatches }: StepProfile): OperationProfile[] {
  const total = dispatches.reduce((sum, { us }) => sum + us, 0);
  const found = new Map<string, { label: string; dispatches: number; us: number; bytes: number }>();
  for (const { label, us, bytes } of dispatches) {
    const key = `${label} ${bytes}`;
    const row = found.get(key) ?? { label, dispatches: 0, us: 0, bytes: 0 };
    row.dispatches++;
    row.us += us;
    row.bytes += bytes;
    found.set(key, row);
  }
  return [...found.values()]
    .map((row) => ({ ...row, share: total > 0 ? row.us / total : 0 }))
    .sort((a, b) => b.us - a.us);
}

/** Ids of a vocabulary, the same in each bench: a multiplicative generator (Park and Miller, CACM 1988). */
function randomIds(vocab: number): () => number {
  let state = 1;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state % vocab;
  };
}
