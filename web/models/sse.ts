/**
 * Server-sent events, the part that OpenAI's API uses: the `data` of each event. (HTML Living Standard, 9.2.6) Bytes may be
 * cut anywhere: inside a character, between CR and LF, inside a field's name.
 */
export class EventStream {
  readonly #decoder = new TextDecoder();
  /** An unfinished line. */
  #line = "";
  #data: string[] = [];
  /** The bytes before ended with CR: an LF that follows belongs to it. */
  #afterCr = false;

  /** The data of the events that `bytes` complete. */
  push(bytes: Uint8Array): string[] {
    const events: string[] = [];
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return events;
    if (this.#afterCr && text.startsWith("\n")) text = text.slice(1);
    this.#afterCr = text === "" ? false : text.endsWith("\r");
    const lines = (this.#line + text).split(/\r\n|\r|\n/);
    this.#line = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length > 0) events.push(this.#data.join("\n"));
        this.#data = [];
      } else if (line.startsWith("data:")) this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      else if (line === "data") this.#data.push("");
    }
    return events;
  }
}

/** The data of each event of a body. Rejects when the connection breaks; an unfinished event at the end is dropped. */
export async function* eventData(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  const events = new EventStream();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* events.push(value);
    }
  } finally {
    // The reader left early and does not need the rest.
    reader.cancel().catch(() => {});
  }
}
