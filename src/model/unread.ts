/**
 * Tensors of a file that no graph takes. Each stands for a part of the model that would be left out of every answer, so
 * one is an error that names it, unless it is on the short list of those that change nothing.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { UnsupportedError } from "../format/errors.ts";
import { describe } from "../format/json.ts";
import { Weights } from "../format/weights.ts";
import type { Read } from "./read-config.ts";

/** RoPE's frequencies, which transformers before 4.31 saved: the config says them, as it does in transformers today. */
const FREQUENCIES = /(^|\.)rotary_emb\.inv_freq$/;

/** UnsupportedError when the checkpoint has a tensor that is neither in `taken` (names in the file) nor harmless. */
export function refuseUnread(
  checkpoint: Checkpoint,
  { config, harmless }: Read,
  taken: ReadonlySet<string>,
): void {
  const { kind, name: file, tensors } = checkpoint;
  const unreadable = tensors instanceof Weights ? tensors.unreadable : new Map<string, never>();
  const isHarmless = (name: string) =>
    harmless?.(name, config) || (kind === "safetensors" && FREQUENCIES.test(name));
  const unread = [...tensors.keys(), ...unreadable.keys()].filter(
    (name) => !taken.has(name) && !isHarmless(name),
  );
  if (unread.length === 0) return;
  const more = unread.length > 1 ? ` and ${unread.length - 1} more` : "";
  throw new UnsupportedError(
    `${file}: tensor ${describe(unread[0])}${more} in a model of the family ${config.family}`,
    "Answers without it would be another model's.",
  );
}
