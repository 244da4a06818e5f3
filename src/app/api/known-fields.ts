/**
 * The fields that clients send, by endpoint and object: OpenAI's, and those that llama.cpp's server, vLLM, SGLang, TGI,
 * Ollama, text-generation-webui and their clients add. The rule of each (`field-rules.ts`); a kept one
 * is read elsewhere. A field that would change the answer is never dropped silently.
 */
import { EMPTY, fieldTable, harmless, kept, refused } from "./field-rules.ts";

const SAMPLERS = refused("The samplers here are temperature, top_k, top_p, min_p and repeat_penalty.", {
  // llama.cpp's.
  ...{ typical_p: [1], tfs_z: [1], top_n_sigma: [0, -1], xtc_probability: EMPTY, dry_multiplier: EMPTY },
  ...{ dynatemp_range: EMPTY, mirostat: EMPTY, adaptive_target: [-1], samplers: EMPTY, min_keep: [0, 1] },
  // text-generation-webui's, Aphrodite's, KoboldCpp's.
  ...{ top_a: EMPTY, tfs: [1], typical: [1], epsilon_cutoff: EMPTY, eta_cutoff: EMPTY, nsigma: EMPTY },
  ...{ smoothing_factor: EMPTY, dynamic_temperature: EMPTY, mirostat_mode: EMPTY, skew: EMPTY },
  ...{ penalty_alpha: EMPTY, guidance_scale: [1], negative_prompt: EMPTY, no_repeat_ngram_size: EMPTY },
  ...{
    encoder_repetition_penalty: [1],
    temperature_last: EMPTY,
    sampler_order: EMPTY,
    sampler_priority: EMPTY,
  },
  ...{ custom_params: EMPTY, custom_logit_processor: EMPTY, logits_processors: EMPTY, vllm_xargs: EMPTY },
});

const WITH_A_SAMPLER = harmless(
  "says more about a sampler that is off unless another field turns it on, and that one is refused",
  ...["xtc_threshold", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers"],
  ...[
    "dynatemp_exponent",
    "dynatemp_low",
    "dynatemp_high",
    "mirostat_tau",
    "mirostat_eta",
    "smoothing_curve",
  ],
  "adaptive_decay",
);

const CHOOSING = fieldTable(
  SAMPLERS,
  WITH_A_SAMPLER,
  refused("repeat_penalty weakens what was said.", {
    rep_pen: [1],
  }),
  refused("repeat_last_n says how far repeat_penalty looks back.", {
    ...{ repetition_penalty_range: EMPTY, rep_pen_range: EMPTY },
  }),
  refused("temperature 0 takes the likeliest token, above 0 it is drawn.", { do_sample: [] }),
  refused("logit_bias favors single tokens or makes them unlikely; json_schema says what an answer may be.", {
    ...{ allowed_token_ids: EMPTY, bad_words: EMPTY, banned_tokens: EMPTY, banned_strings: EMPTY },
    custom_token_bans: EMPTY,
  }),
  refused("n is how many answers are given, each drawn by its own seed.", {
    ...{ best_of: [1], num_beams: [1], use_beam_search: EMPTY, length_penalty: [1] },
    early_stopping: EMPTY,
  }),
);

const ENDING = fieldTable(
  refused("stop ends an answer at a text, max_tokens after a number of tokens.", {
    ...{ min_tokens: EMPTY, stop_token_ids: EMPTY, include_stop_str_in_output: EMPTY, stop_regex: EMPTY },
    ...{ t_max_predict_ms: [0, -1], n_indent: EMPTY, no_stop_trim: EMPTY },
  }),
  refused("max_tokens is its name here.", { max_new_tokens: [], num_predict: [], max_length: [] }),
  refused("ignore_eos is its name here.", { ban_eos_token: EMPTY }),
  harmless(
    "a text is never shifted to make room: an answer ends where the context is full",
    ...["n_keep", "n_discard"],
  ),
);

const FORM = fieldTable(
  refused("json_schema, guided_json and guided_choice say what an answer may be.", {
    ...{ grammar: EMPTY, guided_grammar: EMPTY, guided_regex: EMPTY, regex: EMPTY, ebnf: EMPTY },
    ...{ structural_tag: EMPTY, guided_whitespace_pattern: EMPTY, guideline: EMPTY },
    ...{ grammar_lazy: EMPTY, grammar_triggers: EMPTY },
  }),
  refused("response_format or json_schema says what an answer may be.", { format: EMPTY }),
  harmless("names the library that follows a grammar; here it is always the same", "guided_decoding_backend"),
  harmless("goes with a grammar, which is refused", "preserved_tokens"),
);

const REPORTED = fieldTable(
  refused("logprobs gives the likelihoods of tokens.", {
    ...{ n_probs: EMPTY, post_sampling_probs: EMPTY, top_n_tokens: EMPTY, decoder_input_details: EMPTY },
    prompt_logprobs: [false],
  }),
  refused("/tokenize gives the ids of a text.", {
    ...{ return_tokens: EMPTY, return_token_ids: EMPTY, return_tokens_as_token_ids: EMPTY },
  }),
  refused("An answer has the form that OpenAI's has.", {
    ...{ return_hidden_states: EMPTY, response_fields: EMPTY, details: EMPTY },
    ...{ return_full_text: EMPTY, skip_special_tokens: [true] },
  }),
  harmless("control tokens are not written out", "spaces_between_special_tokens"),
  harmless("the end of an answer has its timings", "timings_per_token"),
);

const MODEL = fieldTable(
  refused("A model is as the server has loaded it.", {
    ...{ lora: EMPTY, lora_path: EMPTY, adapter_id: EMPTY, num_ctx: [], session_params: EMPTY },
  }),
  refused("The model's own template is used; chat_template_kwargs sets its variables.", {
    ...{ chat_template: EMPTY, template: EMPTY, tool_prompt: EMPTY },
  }),
  refused("A prompt that does not fit is refused with its length; /tokenize counts before.", {
    ...{ truncate_prompt_tokens: EMPTY, truncate: EMPTY },
  }),
  refused("All requests share what the cache holds.", { cache_salt: EMPTY, kv_transfer_params: EMPTY }),
  refused("This server reads and writes text only.", {
    ...{ audio: [], images: EMPTY, image_data: EMPTY, multi_modal_data: EMPTY, mm_processor_kwargs: EMPTY },
    modalities: (kinds) => Array.isArray(kinds) && kinds.every((kind) => kind === "text"),
  }),
  refused("Ollama's API is at /api/chat and /api/generate; the values have names in OpenAI's.", {
    ...{ options: EMPTY, parameters: EMPTY, inputs: [], system: EMPTY, context: EMPTY, raw: EMPTY },
  }),
  harmless(
    "says who asks, or how it is kept and billed",
    ...["user", "safety_identifier", "metadata", "store", "service_tier", "request_id", "rid"],
  ),
  harmless(
    "is about speed or order: what is reused or guessed ahead changes no answer",
    ...["prompt_cache_key", "prompt_cache_retention", "prediction", "cache_prompt", "id_slot", "slot_id"],
    ...["speculative.n_max", "speculative.n_min", "speculative.p_min", "priority", "keep_alive"],
  ),
  harmless("llama.cpp's server reads it no more", "penalize_nl"),
);

const REASONING = fieldTable(
  refused('chat_template_kwargs sets what the template knows, such as {"enable_thinking": false}.', {
    ...{ enable_thinking: [], think: [], thinking: [], reasoning: EMPTY, reasoning_effort: [] },
    ...{ thinking_budget: [], thinking_budget_tokens: [-1], thinking_token_budget: [] },
  }),
  refused("Reasoning comes apart, as reasoning_content, and calls as tool_calls.", {
    ...{ include_reasoning: [true], separate_reasoning: [true], stream_reasoning: [true] },
    ...{ reasoning_format: ["auto", "deepseek"], reasoning_in_content: EMPTY, parse_tool_calls: [true] },
    thinking_forced_open: EMPTY,
  }),
);

/** What /v1/chat/completions and /v1/completions have in common. */
const COMMON = fieldTable(
  ...[CHOOSING, ENDING, FORM, REPORTED, MODEL, REASONING],
  kept(
    ...["model", "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "repetition_penalty"],
    ...[
      "repeat_last_n",
      "presence_penalty",
      "frequency_penalty",
      "logit_bias",
      "seed",
      "stop",
      "max_tokens",
      "max_completion_tokens",
      "n_predict",
      "ignore_eos",
    ],
    ...["stream", "stream_options", "logprobs", "response_format", "json_schema", "guided_json"],
    ...["guided_choice", "structured_outputs"],
  ),
);

export const CHAT = fieldTable(
  COMMON,
  kept(
    ...["messages", "tools", "tool_choice", "parallel_tool_calls", "top_logprobs", "chat_template_kwargs"],
    ...["add_generation_prompt", "continue_final_message", "reasoning_effort", "n", "return_progress"],
  ),
  refused("messages hold what is asked.", { prompt: EMPTY }),
  refused("It was replaced by tools.", { functions: EMPTY }),
  refused("It was replaced by tool_choice.", { function_call: ["none"] }),
  refused('chat_template_kwargs takes them: {"documents": [...]}.', { documents: EMPTY }),
  refused("The template decides about the tokens around a conversation.", { add_special_tokens: [false] }),
  refused("max_tokens bounds an answer, and the messages may ask for a short one.", {
    verbosity: ["medium"],
  }),
  // An empty object asks for a search.
  refused("This server searches nothing.", { web_search_options: [] }),
);

export const COMPLETIONS = fieldTable(
  COMMON,
  kept("prompt", "n"),
  refused("/v1/chat/completions reports it.", { return_progress: EMPTY }),
  refused("The prompt is no part of the answer, and a text goes on at its end only.", {
    ...{ echo: EMPTY, suffix: EMPTY },
  }),
  refused("/v1/chat/completions takes it.", {
    ...{ messages: EMPTY, tools: EMPTY, tool_choice: ["none", "auto"], chat_template_kwargs: EMPTY },
  }),
  refused("logprobs is a number here: the N likeliest tokens.", { top_logprobs: EMPTY }),
  refused("The prompt may be a list of token ids.", { add_special_tokens: [true], add_bos_token: [true] }),
);

export const TOKENIZE = fieldTable(
  kept("content", "parse_special", "add_special", "model"),
  refused("Only ids are returned.", { with_pieces: EMPTY }),
);

export const STREAM_OPTIONS = fieldTable(
  kept("include_usage", "continuous_usage_stats"),
  harmless("hides lengths of tokens from a network that is not this machine's", "include_obfuscation"),
);

export const RESPONSE_FORMAT = fieldTable(
  kept("type", "json_schema", "schema"),
  refused("schema is its name here.", { value: [] }),
);

export const JSON_SCHEMA = fieldTable(
  kept("schema", "strict"),
  harmless("is for readers; the schema says what counts", "name", "description"),
);

export const STRUCTURED_OUTPUTS = fieldTable(
  kept("json", "json_object", "choice"),
  refused("json, json_object and choice say what an answer may be.", {
    ...{ regex: EMPTY, grammar: EMPTY, structural_tag: EMPTY, whitespace_pattern: EMPTY },
    ...{ disable_any_whitespace: EMPTY, disable_additional_properties: EMPTY },
  }),
  harmless("there is one library that follows a grammar, and no other to fall back to", "disable_fallback"),
);

const MESSAGE = fieldTable(
  kept("role", "content", "name"),
  harmless("marks what a provider may cache", "cache_control"),
  refused("This server reads text only.", { images: EMPTY, audio: EMPTY }),
);

/** By role; the last one is for all others. */
export const MESSAGES = {
  assistant: fieldTable(
    MESSAGE,
    kept("tool_calls", "reasoning_content", "reasoning"),
    refused("content may hold what was said.", { refusal: EMPTY }),
    refused("reasoning_content is its name here.", { thinking: EMPTY }),
    refused("It was replaced by tool_calls.", { function_call: EMPTY }),
    harmless("points into the content, which is kept", "annotations"),
    harmless("an answer at the end is continued in any case", "prefix"),
  ),
  tool: fieldTable(MESSAGE, kept("tool_call_id")),
  other: MESSAGE,
} as const;

export const PART = fieldTable(
  kept("type", "text"),
  harmless("marks what a provider may cache", "cache_control"),
  harmless("points into the text, which is kept", "annotations"),
);

export const CALL = fieldTable(
  kept("id", "type", "function"),
  harmless("the order of the list says it", "index"),
);
export const CALL_FUNCTION = fieldTable(
  kept("name", "arguments"),
  harmless("is what the openai client made of arguments", "parsed_arguments"),
);

export const TOOL = fieldTable(
  kept("type", "function"),
  harmless("marks what a provider may cache", "cache_control"),
);
export const TOOL_FUNCTION = kept("name", "description", "parameters", "strict");
export const TOOL_CHOICE = kept("type", "function");
export const TOOL_CHOICE_FUNCTION = kept("name");
