/**
 * A model that says what a test wants: a session over an allocation whose logits favour scripted tokens, and a
 * tokenizer whose tokens are given byte strings. Both go through the real Session and generation loop.
 */
import type { Allocation, Cache, Graph, Step } from "../../src/device/contract.ts";
import { Session } from "../../src/engine/session.ts";
import type { TextStream, Tokenizer } from "../../src/format/tokenizer.ts";

export const END = 0;

/** Token 0 ends; token i + 1 is pieces[i], text or raw bytes. */
export function piecesTokenizer(pieces: readonly (string | Uint8Array)[]): Tokenizer {
  const bytes = pieces.map((piece) => (typeof piece === "string" ? new TextEncoder().encode(piece) : piece));
  const none = () => {
    throw new Error("the scripted tokenizer only decodes");
  };
  const stream = (): TextStream => {
    const decoder = new TextDecoder();
    return {
      push: (id) => (id === END ? "" : decoder.decode(bytes[id - 1], { stream: true })),
      end: () => decoder.decode(),
    };
  };
  return {
    vocab: pieces.length + 1,
    endIds: new Set([END]),
    bosId: null,
    addBos: false,
    encode: none,
    decode: none,
    protect: none,
    stream,
  };
}

export interface Script {
  session: Session;
  steps: Step[];
}

/** After token number p of the timeline (from 0), the most likely next one is script(p + 1). */
export function scriptedSession(
  script: (position: number) => number,
  options: { vocab: number; context?: number; chunk?: number; caches?: Pick<Cache, "window" | "capacity">[] },
): Script {
  const { vocab, context = 1024, chunk = 8, caches = [] } = options;
  const steps: Step[] = [];
  let end = 0;
  const logits = { id: 0, rows: "outputs", cols: vocab } as const;
  const allocation = {
    async run(step: Step) {
      steps.push(step);
      end = step.position + step.ids.length;
    },
    async read() {
      const row = new Float32Array(vocab);
      row[script(end)] = 1;
      return row;
    },
  };
  const graph = { maxTokens: chunk, caches, logits };
  const session = new Session(graph as unknown as Graph, allocation as unknown as Allocation, context, vocab);
  return { session, steps };
}
