/**
 * Tensors of a file that no graph uses. Such a tensor would be left out of every answer, so it is an error that names
 * it, unless it is on the short list of harmless ones.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { UnsupportedError } from "../format/errors.ts";
import { describe } from "../format/json.ts";
import { Weights } from "../format/weights.ts";
import type { Read } from "./read-config.ts";

/**
 * RoPE's frequencies, which transformers before 4.31 saved. The config says them, and today's transformers reads them
 * from there.
 */
const FREQUENCIES = /(^|\.)rotary_emb\.inv_freq$/;

/**
 * Throws UnsupportedError if the checkpoint has a tensor that is neither in `taken` (names in the file) nor harmless.
 */
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
    "Without it the answers would be those of another model.",
  );
}
