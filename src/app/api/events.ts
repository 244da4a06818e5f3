/**
 * Server-sent events. Their form, the comments that keep a silent connection alive, and the bound on what a slow
 * reader may leave unread.
 * (https://html.spec.whatwg.org/multipage/server-sent-events.html)
 */
import { AbortedError } from "../../index.ts";
import { jsonText } from "./json-text.ts";

/** Proxies close a connection that is silent for a minute; a long prompt takes longer. */
const SILENCE_MS = 15_000;
/** Bytes that may wait for their reader before the generation does. */
const MOST_UNREAD = 2 ** 20;
/** A reader that takes nothing for this long counts as gone, whatever the state of its socket. */
const STALLED_MS = 60_000;

export interface EventWriter {
  /** One event. Resolves when the reader has room for more; rejects with AbortedError when it has gone. */
  send(data: unknown): Promise<void>;
}

/**
 * A response whose events `write` sends; then "[DONE]", as OpenAI ends a stream. `onGone`: the reader has left. An
 * error of `write` becomes the last event by `describe`. isTyped: each event is named by its `type`, and the last one
 * is recognised by it.
 */
export function eventResponse(options: {
  write(events: EventWriter): Promise<void>;
  onGone(): void;
  describe(error: unknown): unknown;
  readonly isTyped?: boolean;
}): Response {
  const { write, onGone, describe, isTyped = false } = options;
  const written = (data: unknown) => {
    const name = isTyped ? `event: ${(data as { type: string }).type}\n` : "";
    return `${name}data: ${jsonText(data)}\n\n`;
  };
  const encoder = new TextEncoder();
  let isOpen = true;
  let room: (() => void) | null = null;
  let silence: ReturnType<typeof setInterval> | undefined;
  const end = () => {
    isOpen = false;
    clearInterval(silence);
    room?.();
  };
  const gone = () => {
    end();
    onGone();
  };
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const put = (text: string) => isOpen && controller.enqueue(encoder.encode(text));
        const hasRoom = () => (controller.desiredSize ?? 0) > 0;
        silence = setInterval(() => hasRoom() && put(": still here\n\n"), SILENCE_MS);
        const send = async (data: unknown) => {
          put(written(data));
          if (isOpen && !hasRoom()) await roomOrEnd();
          if (!isOpen) throw new AbortedError("the stream");
        };
        const roomOrEnd = async () => {
          const stalled = setTimeout(() => {
            gone();
            // Its connection is closed, too.
            controller.error(new AbortedError("the stream"));
          }, STALLED_MS);
          await new Promise<void>((resolve) => {
            room = resolve;
          });
          clearTimeout(stalled);
          room = null;
        };
        const run = async () => {
          try {
            await write({ send });
          } catch (error) {
            put(written(describe(error)));
          }
          if (!isTyped) put("data: [DONE]\n\n");
          if (isOpen) controller.close();
          end();
        };
        void run();
      },
      pull() {
        room?.();
      },
      cancel: gone,
    },
    { highWaterMark: MOST_UNREAD, size: (chunk) => chunk?.length ?? 0 },
  );
  return new Response(body, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      // nginx would buffer the events.
      "x-accel-buffering": "no",
    },
  });
}
