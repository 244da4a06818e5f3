/**
 * Ollama's requests as this server's own (OpenAI's form): which name becomes which. Values are checked
 * by the other reader, so an error may name OpenAI's field. (ollama/docs/api.md)
 */
import { EMPTY, fieldTable, harmless, kept, refused } from "../field-rules.ts";
import type { Fields } from "../fields.ts";

type Json = Record<string, unknown>;

const COMMON = fieldTable(
  kept("model", "stream", "format", "options", "think", "logprobs", "top_logprobs", "keep_alive"),
  harmless(
    "a prompt that does not fit is refused with its length, and a text is never shifted",
    "truncate",
    "shift",
  ),
);

/** tool_choice: clients send it, and Ollama itself has yet to take it (ollama/ollama#11171, November 2026). */
export const OLLAMA_CHAT = fieldTable(COMMON, kept("messages", "tools", "tool_choice"));
export const OLLAMA_GENERATE = fieldTable(
  COMMON,
  kept("prompt", "system", "raw"),
  refused("This server reads text only.", { images: EMPTY }),
  refused("The model's own template is used; raw takes none.", { template: EMPTY }),
  refused("A text goes on at its end only.", { suffix: EMPTY }),
  refused("/api/chat takes what was said before.", { context: EMPTY }),
);

/** Ollama's name of an option and ours. */
const OPTIONS: Readonly<Record<string, string>> = {
  ...{
    temperature: "temperature",
    top_k: "top_k",
    top_p: "top_p",
    min_p: "min_p",
    seed: "seed",
    stop: "stop",
  },
  ...{ repeat_penalty: "repeat_penalty", repeat_last_n: "repeat_last_n", num_predict: "max_tokens" },
  // Refused by the reader where they have an effect.
  ...{ presence_penalty: "presence_penalty", frequency_penalty: "frequency_penalty", typical_p: "typical_p" },
  ...{ tfs_z: "tfs_z", mirostat: "mirostat", mirostat_tau: "mirostat_tau", mirostat_eta: "mirostat_eta" },
};

/** The context, threads and GPU are as the server was started. */
const MACHINE = harmless(
  "the server has these as it was started",
  ...[
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "num_keep",
    "numa",
    "use_mmap",
    "use_mlock",
  ],
  ...["low_vram", "f16_kv", "vocab_only", "logits_all", "penalize_newline", "draft_num_predict"],
);

/** What chat and generate have in common. `templateKnows`: whether the model's template has such a variable. */
export function commonOf(fields: Fields, templateKnows: (variable: string) => boolean): Json {
  const options = fields.object("options")?.hold(fieldTable(MACHINE, kept(...Object.keys(OPTIONS))));
  const sampling = Object.entries(OPTIONS).flatMap(([name, own]) => {
    const value = options?.any(name);
    // -1: unlimited; -2: to the end of the context.
    const isNoLimit = name === "num_predict" && (value === -1 || value === -2);
    return value === undefined || isNoLimit ? [] : [[own, value]];
  });
  const logprobs = fields.boolean("logprobs");
  return {
    ...Object.fromEntries(sampling),
    ...(logprobs === undefined ? {} : { logprobs, top_logprobs: fields.any("top_logprobs") ?? 0 }),
    ...formatOf(fields),
    ...thinkOf(fields, templateKnows),
  };
}

/** "json", or a JSON schema. */
function formatOf(fields: Fields): Json {
  const format = fields.any("format");
  if (format === undefined || format === "") return {};
  if (format === "json") return { response_format: { type: "json_object" } };
  if (typeof format !== "object") throw fields.wrong("format", '"json" or a JSON schema');
  return { response_format: { type: "json_schema", json_schema: { name: "answer", schema: format } } };
}

/** true and false, or how much: "low", "medium", "high". false has no effect if the template has no such variable. */
function thinkOf(fields: Fields, templateKnows: (variable: string) => boolean): Json {
  const think = fields.any("think");
  if (think === undefined) return {};
  if (typeof think === "string") return { reasoning_effort: think };
  if (typeof think !== "boolean") throw fields.wrong("think", 'true, false, "low", "medium" or "high"');
  return templateKnows("enable_thinking") ? { chat_template_kwargs: { enable_thinking: think } } : {};
}

/** Messages with their names as OpenAI has them. */
export function messagesOf(fields: Fields): unknown[] {
  const messages = fields.any("messages");
  if (!Array.isArray(messages)) throw fields.wrong("messages", "a list of messages");
  const ids: string[] = [];
  return messages.map((message) => {
    if (typeof message !== "object" || message === null) return message;
    const { thinking, tool_name: name, tool_calls: calls, ...rest } = message as Json;
    const found: Json = { ...rest };
    if (typeof thinking === "string" && thinking !== "") found.reasoning_content = thinking;
    if (Array.isArray(calls) && calls.length > 0)
      found.tool_calls = calls.map((call) => {
        const id = `call_${ids.length}`;
        ids.push(id);
        const { function: called } = (call ?? {}) as { function?: Json };
        const { index: _index, ...own } = called ?? {};
        return { id, type: "function", function: own };
      });
    // Results come in the order of the calls.
    if (found.role === "tool") Object.assign(found, { tool_call_id: ids.shift(), ...(name ? { name } : {}) });
    if (Array.isArray(found.images) && found.images.length === 0) delete found.images;
    return found;
  });
}

const UNIT_MS: Readonly<Record<string, number>> = {
  ...{ ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 },
};

/** "keep_alive" in ms: seconds, or a duration as Go writes it ("10m", "1h30m"); negative values mean for ever. */
export function keepOf(fields: Fields): number | undefined {
  const found = fields.any("keep_alive");
  if (found === undefined) return undefined;
  const ms = typeof found === "string" ? durationMs(found) : Number(found) * 1000;
  if (typeof found === "boolean" || Number.isNaN(ms))
    throw fields.wrong("keep_alive", 'seconds, or a duration such as "10m"; -1: for ever');
  return ms < 0 ? Number.POSITIVE_INFINITY : ms;
}

/** NaN: invalid. */
function durationMs(text: string): number {
  if (/^[+-]?\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  const [, sign, parts] = /^([+-]?)((?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+)$/.exec(text) ?? [];
  if (parts === undefined) return Number.NaN;
  const ms = [...parts.matchAll(/(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)/g)].reduce(
    (sum, [, count, unit]) => sum + Number(count) * UNIT_MS[unit],
    0,
  );
  return sign === "-" ? -ms : ms;
}
