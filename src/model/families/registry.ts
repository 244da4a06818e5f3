/** The list of supported families. */
import type { Family } from "./family.ts";
import { gemma2 } from "./gemma2.ts";
import { gemma3 } from "./gemma3.ts";
import { gemma4 } from "./gemma4.ts";
import { gptOss } from "./gpt-oss.ts";
import { granite } from "./granite.ts";
import { llama } from "./llama.ts";
import { mistral } from "./mistral.ts";
import { mixtral } from "./mixtral.ts";
import { olmo2 } from "./olmo2.ts";
import { phi3 } from "./phi3.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3 } from "./qwen3.ts";
import { qwen3moe } from "./qwen3moe.ts";
import { qwen35 } from "./qwen35.ts";
import { smollm3 } from "./smollm3.ts";

export const FAMILIES: readonly Family[] = [
  ...[llama, mistral, mixtral, qwen2, qwen3, qwen3moe, qwen35],
  ...[gemma2, gemma3, gemma4],
  ...[gptOss, granite, olmo2, phi3, smollm3],
];
