/** What every device refuses before it touches anything: numbers that a graph was not made for. */
import { ArgumentError } from "../format/errors.ts";
import { BLOCK_SLOTS } from "./cache-blocks.ts";
import type { CacheRange, Graph, Step } from "./contract.ts";

export function checkStep(graph: Graph, { ids, outputs, timeline = 0 }: Step): void {
  const { maxTokens, maxOutputs } = graph;
  const tokens = ids.length;
  if (!(tokens >= 1 && tokens <= maxTokens))
    throw new ArgumentError("tokens of a step", tokens, `1 to ${maxTokens}`);
  if (!(outputs >= 0 && outputs <= Math.min(tokens, maxOutputs)))
    throw new ArgumentError("outputs of a step", outputs, `0 to ${Math.min(tokens, maxOutputs)}`);
  checkTimeline(graph, timeline);
}

/** Copying a timeline onto itself is a mistake of the caller. */
export function checkCopy(graph: Graph, from: number, to: number): void {
  for (const timeline of [from, to]) checkTimeline(graph, timeline);
  if (from === to) throw new ArgumentError("timeline to copy to", to, `another than ${from}`);
}

export function checkRange(graph: Graph, { cache, kvHead, first, slots, timeline = 0 }: CacheRange): void {
  checkTimeline(graph, timeline);
  if (!(Number.isInteger(kvHead) && kvHead >= 0 && kvHead < cache.kvHeads))
    throw new ArgumentError("KV head", kvHead, `0 to ${cache.kvHeads - 1}`);
  const isBlocks = first % BLOCK_SLOTS === 0 && slots % BLOCK_SLOTS === 0 && first >= 0 && slots > 0;
  if (!isBlocks || first + slots > cache.capacity)
    throw new ArgumentError(
      "token slots",
      `${first} to ${first + slots}`,
      `whole blocks of ${BLOCK_SLOTS} within 0 to ${cache.capacity}`,
    );
}

export function checkTimeline({ timelines }: Graph, timeline: number): void {
  if (!(Number.isInteger(timeline) && timeline >= 0 && timeline < timelines))
    throw new ArgumentError("timeline", timeline, `0 to ${timelines - 1}`);
}
