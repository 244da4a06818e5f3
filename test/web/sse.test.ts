/** Server-sent events: any cut of the bytes gives the same events, and what the standard says about lines holds. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EventStream, eventData } from "../../web/models/sse.ts";

const encoder = new TextEncoder();

function events(...pieces: Uint8Array[]): string[] {
  const stream = new EventStream();
  return pieces.flatMap((piece) => stream.push(piece));
}

const textEvents = (text: string) => events(encoder.encode(text));

describe("events", () => {
  it.each([
    ["one", "data: a\n\n", ["a"]],
    ["CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]],
    ["CR", "data: a\r\rdata: b\r\r", ["a", "b"]],
    ["no space behind the colon, one that is kept", "data:a\n\ndata:  b\n\n", ["a", " b"]],
    ["lines joined", "data: a\ndata: b\n\n", ["a\nb"]],
    ["an empty line of data", "data\ndata:\n\n", ["\n"]],
    ["comments and other fields left out", ": ping\nevent: x\nid: 1\nretry: 5\ndata: a\n\n", ["a"]],
    ["no data, no event", "event: x\n\n\n\n", []],
    ["an unfinished one dropped", "data: a\n\ndata: b\n", ["a"]],
    ["a byte order mark", "\ufeffdata: a\n\n", ["a"]],
  ])("%s", (_, text, expected) => {
    expect(textEvents(text)).toEqual(expected);
  });

  it("do not depend on where the bytes are cut", () => {
    const ending = fc.constantFrom("\n", "\r\n", "\r");
    const line = fc.oneof(
      fc.string({ unit: "grapheme" }).map((text) => `data: ${text.replace(/[\r\n]/g, "")}`),
      fc.constantFrom("", ": comment", "data", "event: x"),
    );
    fc.assert(
      fc.property(
        fc.array(fc.tuple(line, ending), { maxLength: 20 }),
        fc.array(fc.nat(2000), { maxLength: 30 }),
        (lines, cuts) => {
          const bytes = encoder.encode(lines.flat().join(""));
          const places = [...new Set(cuts.filter((cut) => cut < bytes.length))].sort((a, b) => a - b);
          const pieces = [0, ...places].map((from, i) => bytes.subarray(from, places[i]));
          expect(events(...pieces)).toEqual(events(bytes));
        },
      ),
    );
  });

  it("reject with a body that breaks, and end one that is left", async () => {
    const broken = new ReadableStream<Uint8Array>({
      pull(controller) {
        controller.enqueue(encoder.encode("data: a\n\n"));
        controller.error(new TypeError("network error"));
      },
    });
    const all = async () => {
      for await (const data of eventData(broken)) expect(data).toBe("a");
    };
    await expect(all()).rejects.toThrow("network error");

    let isCancelled = false;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(encoder.encode("data: a\n\n")),
      cancel: () => {
        isCancelled = true;
      },
    });
    for await (const data of eventData(endless)) {
      expect(data).toBe("a");
      break;
    }
    await Promise.resolve();
    expect(isCancelled).toBe(true);
  });
});
