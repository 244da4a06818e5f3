/**
 * The server's counters in Prometheus's format; everything is counted since the start.
 * (https://prometheus.io/docs/instrumenting/exposition_formats/)
 */
import type { GenerationResult } from "../../index.ts";

/** Seconds; a long prompt on a CPU takes minutes. */
const BUCKETS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];

class Histogram {
  readonly #counts = new Array<number>(BUCKETS.length).fill(0);
  #sum = 0;
  #count = 0;

  observe(seconds: number): void {
    this.#sum += seconds;
    this.#count++;
    BUCKETS.forEach((bound, i) => {
      if (seconds <= bound) this.#counts[i]++;
    });
  }

  lines(name: string): string[] {
    return [
      ...BUCKETS.map((bound, i) => `${name}_bucket{le="${bound}"} ${this.#counts[i]}`),
      `${name}_bucket{le="+Inf"} ${this.#count}`,
      `${name}_sum ${this.#sum}`,
      `${name}_count ${this.#count}`,
    ];
  }
}

/** Values at this moment. */
interface Gauges {
  running: number;
  waiting: number;
  parallel: number;
  cache: { tokens: number; used: number; known: number };
  contextTokens: number;
  cacheBytes: number;
}

/** The gauges of a loaded model. */
export interface LoadedGauges {
  /** The label; null: it is the only one. */
  model: string | null;
  gauges: Gauges;
}

const GAUGES: readonly [name: string, help: string, of: (gauges: Gauges) => number][] = [
  ["nibble_requests_running", "Generations under way.", ({ running }) => running],
  ["nibble_requests_waiting", "Requests waiting for their turn.", ({ waiting }) => waiting],
  ["nibble_parallel", "Generations at a time.", ({ parallel }) => parallel],
  [
    "nibble_cache_tokens",
    "Tokens that the cache holds, of all requests together.",
    ({ cache }) => cache.tokens,
  ],
  ["nibble_cache_tokens_used", "Of running requests.", ({ cache }) => cache.used],
  [
    "nibble_cache_tokens_known",
    "Of requests that ended, until others need the room.",
    ({ cache }) => cache.known,
  ],
  ["nibble_context_tokens", "Longest context of a request.", ({ contextTokens }) => contextTokens],
  ["nibble_cache_bytes", "Keys and values, allocated.", ({ cacheBytes }) => cacheBytes],
];

/** Names of models are file names, so they may contain any character. */
function labelOf(model: string | null): string {
  if (model === null) return "";
  return `{model="${model.replace(/[\\"]/g, "\\$&").replaceAll("\n", "\\n")}"}`;
}

export class Metrics {
  readonly #requests = new Map<string, number>();
  readonly #seconds = new Histogram();
  readonly #firstToken = new Histogram();
  #promptTokens = 0;
  #reusedTokens = 0;
  #generatedTokens = 0;
  #draftedTokens = 0;
  #acceptedTokens = 0;
  #promptSeconds = 0;
  #generateSeconds = 0;
  #cancelled = 0;
  #loads = 0;

  /** route: one of ours, never the client's text, since labels are never freed. */
  request(route: string, status: number): void {
    const key = `route="${route}",status="${status}"`;
    this.#requests.set(key, (this.#requests.get(key) ?? 0) + 1);
  }

  generated(result: GenerationResult, seconds: number): void {
    this.#seconds.observe(seconds);
    this.#promptTokens += result.promptTokens;
    this.#reusedTokens += result.reusedTokens;
    this.#generatedTokens += result.generatedTokens;
    this.#draftedTokens += result.draftedTokens;
    this.#acceptedTokens += result.acceptedTokens;
    this.#promptSeconds += result.promptMs / 1000;
    this.#generateSeconds += result.generateMs / 1000;
  }

  /** seconds: since the request arrived. */
  firstToken(seconds: number): void {
    this.#firstToken.observe(seconds);
  }

  /** A client disconnected, or the server was stopped, before the generation's end. */
  cancelled(): void {
    this.#cancelled++;
  }

  /** A model was loaded. */
  loaded(): void {
    this.#loads++;
  }

  text(loaded: readonly LoadedGauges[]): string {
    const families: Family[] = [
      [
        "nibble_requests_total",
        "counter",
        "Requests answered, by route and status.",
        (name) => [...this.#requests].map(([labels, count]) => `${name}{${labels}} ${count}`),
      ],
      ...single("counter", [
        ["nibble_prompt_tokens_total", "Tokens of prompts, reused ones included.", this.#promptTokens],
        ["nibble_reused_tokens_total", "Tokens of prompts that the cache held.", this.#reusedTokens],
        ["nibble_generated_tokens_total", "Tokens generated.", this.#generatedTokens],
        [
          "nibble_drafted_tokens_total",
          "Tokens guessed ahead and checked several in a step.",
          this.#draftedTokens,
        ],
        ["nibble_accepted_tokens_total", "Of these, right ones.", this.#acceptedTokens],
        ["nibble_prompt_seconds_total", "Time spent reading prompts.", this.#promptSeconds],
        ["nibble_generate_seconds_total", "Time spent generating.", this.#generateSeconds],
        ["nibble_cancelled_total", "Generations that did not reach their end.", this.#cancelled],
      ]),
      ["nibble_model_loads_total", "counter", "Models loaded.", (name) => [`${name} ${this.#loads}`]],
      ["nibble_models_loaded", "gauge", "Models that are loaded.", (name) => [`${name} ${loaded.length}`]],
      ...GAUGES.map(
        ([name, help, of]): Family => [
          name,
          "gauge",
          help,
          () => loaded.map(({ model, gauges }) => `${name}${labelOf(model)} ${of(gauges)}`),
        ],
      ),
      [
        "nibble_request_seconds",
        "histogram",
        "From a request to the end of its answer.",
        (name) => this.#seconds.lines(name),
      ],
      [
        "nibble_first_token_seconds",
        "histogram",
        "From a request to its first text.",
        (name) => this.#firstToken.lines(name),
      ],
    ];
    return families
      .flatMap(([name, kind, help, lines]) => [
        `# HELP ${name} ${help}`,
        `# TYPE ${name} ${kind}`,
        ...lines(name),
      ])
      .map((line) => `${line}\n`)
      .join("");
  }
}

type Family = [name: string, kind: string, help: string, lines: (name: string) => string[]];

function single(kind: string, values: readonly [name: string, help: string, value: number][]): Family[] {
  return values.map(([name, help, value]) => [name, kind, help, () => [`${name} ${value}`]]);
}
