/** What every device refuses before it touches anything: numbers that a graph was not made for. */
import { ArgumentError } from "../format/errors.ts";
import type { Graph, Step } from "./contract.ts";

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

export function checkTimeline({ timelines }: Graph, timeline: number): void {
  if (!(Number.isInteger(timeline) && timeline >= 0 && timeline < timelines))
    throw new ArgumentError("timeline", timeline, `0 to ${timelines - 1}`);
}
