/**
 * What of the library the chat page's drawing thread takes: small and pure, so that it comes with the first script. All that
 * computes is in browser.ts, which the page's worker loads.
 */
export { MARKS, openedBy, partStream } from "./answer/part-streams.ts";
export { ReasoningStream, type Section, type StreamedPart } from "./answer/reasoning.ts";
export { bytes, grouped, rate, rounded } from "./plot/numbers.ts";
