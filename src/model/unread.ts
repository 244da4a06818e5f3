/**
 * Tensors of a file that no graph takes. Each stands for a part of the model that would be left out of every answer, so
 * one is an error that names it, unless it is on the short list of those that change nothing.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { UnsupportedError } from "../format/errors.ts";
import { describe } from "../format/json.ts";
import { Weights } from "../format/weights.ts";
import { ROPE_DIVISORS } from "./config-gguf.ts";

interface Harmless {
  readonly kind: Checkpoint["kind"];
  readonly family: string;
  readonly name: RegExp;
}

const HARMLESS: readonly Harmless[] = [
  // Divisors of RoPE's frequencies: the config has read them.
  { kind: "gguf", family: "llama", name: new RegExp(`^${ROPE_DIVISORS.replace(".", "\\.")}$`) },
  // RoPE's frequencies, which transformers before 4.31 saved: the config says them, as it does in transformers today.
  { kind: "safetensors", family: "", name: /(^|\.)rotary_emb\.inv_freq$/ },
  // The eyes of a Gemma 3 that also sees images: text does not pass through them.
  { kind: "safetensors", family: "gemma3", name: /^(model\.)?(vision_tower|multi_modal_projector)\./ },
];

/** UnsupportedError when the checkpoint has a tensor that is neither in `taken` (names in the file) nor harmless. */
export function refuseUnread(checkpoint: Checkpoint, family: string, taken: ReadonlySet<string>): void {
  const { kind, name: file, tensors } = checkpoint;
  const unreadable = tensors instanceof Weights ? tensors.unreadable : new Map<string, never>();
  const harmless = HARMLESS.filter((known) => known.kind === kind && ["", family].includes(known.family));
  const unread = [...tensors.keys(), ...unreadable.keys()].filter(
    (name) => !taken.has(name) && !harmless.some((known) => known.name.test(name)),
  );
  if (unread.length === 0) return;
  const more = unread.length > 1 ? ` and ${unread.length - 1} more` : "";
  throw new UnsupportedError(
    `${file}: tensor ${describe(unread[0])}${more} in a model of the family ${family}`,
    "Answers without it would be another model's.",
  );
}
