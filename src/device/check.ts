/** What every device refuses before it touches anything, with the same errors: numbers and formats that it was not made for. */
import { ArgumentError, UnsupportedError } from "../format/errors.ts";
import { BLOCK_SLOTS } from "./cache-blocks.ts";
import type { CacheRange, ContinueOptions, Device, Graph, Step } from "./contract.ts";

export function checkStep(graph: Graph, { ids, position, outputs, timeline = 0 }: Step): void {
  const { maxTokens, maxOutputs } = graph;
  const tokens = ids.length;
  if (!(tokens >= 1 && tokens <= maxTokens))
    throw new ArgumentError("tokens of a step", tokens, `1 to ${maxTokens}`);
  if (!(Number.isInteger(outputs) && outputs >= 0 && outputs <= Math.min(tokens, maxOutputs)))
    throw new ArgumentError("outputs of a step", outputs, `0 to ${Math.min(tokens, maxOutputs)}`);
  checkPosition(graph, position, tokens);
  checkTimeline(graph, timeline);
}

/** Generation from `position` on, whose last id starts no step. */
export function checkContinue(graph: Graph, { position, most, timeline = 0 }: ContinueOptions): void {
  if (!(Number.isInteger(most) && most >= 1))
    throw new ArgumentError("ids of a continuation", most, "integers from 1 on");
  checkPosition(graph, position, most - 1);
  checkTimeline(graph, timeline);
}

/** Kernels count positions in 32 bits with a sign. */
const MOST_POSITIONS = 2 ** 31;

/** `tokens` from `position` on: a cache without a window holds so many, and a ring goes on. */
function checkPosition({ caches }: Graph, position: number, tokens: number): void {
  const most = caches.reduce(
    (least, { window, capacity }) => (window === null ? Math.min(least, capacity) : least),
    MOST_POSITIONS,
  );
  if (!(Number.isInteger(position) && position >= 0 && position + tokens <= most))
    throw new ArgumentError("position of a step", position, `integers 0 to ${most - tokens}`);
}

/** UnsupportedError for a codec that the device has no kernels for. */
export function checkFormats(graph: Graph, device: Pick<Device, "name" | "kvFormats">): void {
  for (const { codec } of graph.caches) checkFormat(codec.name, device);
}

export function checkFormat(name: string, device: Pick<Device, "name" | "kvFormats">): void {
  if (device.kvFormats && !device.kvFormats.includes(name))
    throw new UnsupportedError(
      `KV format ${name} on the ${device.name} device`,
      `It has: ${device.kvFormats.join(", ")}.`,
    );
}

/** Copying a timeline onto itself is a mistake of the caller. */
export function checkCopy(graph: Graph, from: number, to: number, tokens: number): void {
  if (!(Number.isInteger(tokens) && tokens >= 0))
    throw new ArgumentError("tokens to copy", tokens, "integers from 0 on");
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
