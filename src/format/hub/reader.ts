/**
 * One file of the Hub, read in ranges by several at once from the address that the Hub redirects to, which is kept:
 * asking the Hub for each range would meet its rate limit. Owns every check of an answer against what the Hub listed:
 * size, range, and tags that tell a file that changed.
 */
import { FormatError, NibbleError } from "../errors.ts";
import { contentRange, Dropped } from "../http-answer.ts";
import type { HubClient } from "./client.ts";

/** Takes bytes at an offset of the file; what it has not taken is asked for again. */
export type Sink = (offset: number, bytes: Uint8Array) => Promise<void>;

/** A file on the Hub, read in ranges by several at once. */
export class HubFileReader {
  readonly #client: HubClient;
  readonly #url: URL;
  readonly #file: { readonly thing: string; readonly bytes: number; readonly hash: string };
  /** Where the Hub redirected to, while it works. */
  #at: URL | null = null;
  readonly #tags = new Map<string, string>();

  /** hash: SHA-256 of the content, or git's SHA-1 of a small file. */
  constructor(
    client: HubClient,
    commit: string,
    { path, bytes, hash }: { readonly path: string; readonly bytes: number; readonly hash: string },
  ) {
    this.#client = client;
    const { url, thing } = client.fileAt(commit, path);
    this.#url = url;
    this.#file = { thing, bytes, hash };
  }

  /**
   * Gives all bytes from `start` to `end` to the sink, in order. `signal` ends it.
   * NibbleError "io": unreachable. FormatError: another range, another size, a file that changed meanwhile.
   */
  async read(start: number, end: number, sink: Sink, signal: AbortSignal): Promise<void> {
    let at = start;
    const whole = start === 0 && end === this.#file.bytes;
    // A whole file that is sent again from its start: what was taken once is never taken anew, as its hash may be known.
    const take: Sink = async (offset, bytes) => {
      if (offset + bytes.length <= at) return;
      await sink(at, bytes.subarray(at - offset));
      at = offset + bytes.length;
    };
    const step = async () => {
      // The last bytes may have come before the connection broke.
      if (at < end) await this.#exchange(at, end, whole, take, signal);
    };
    while (at < end) await this.#client.attempt(this.#file.thing, step, () => at, signal);
  }

  /** One request for what is left; the server may give less. */
  async #exchange(start: number, end: number, whole: boolean, take: Sink, outer: AbortSignal): Promise<void> {
    const { thing, bytes } = this.#file;
    await this.#client.exchange(async (guard, signal) => {
      const headers: Record<string, string> =
        whole && start === 0 ? {} : { range: `bytes=${start}-${end - 1}` };
      const kept = this.#at;
      const { response, at, trail } = await this.#client.follow(kept ?? this.#url, headers, guard, signal);
      // Signed addresses expire: the Hub gives a new one.
      if (kept !== null && [400, 401, 403, 404, 410].includes(response.status)) {
        if (this.#at === kept) this.#at = null;
        throw new Dropped(`its address there has expired (${response.status})`);
      }
      for (const found of trail) this.#compareLink(found);
      this.#client.refuse(response, at, thing);
      this.#compareTag(response, at);
      if (!this.#client.isHub(at)) this.#at = at;
      const range = rangeOf(thing, response, { start, end, bytes, whole });
      const reader = response.body?.getReader();
      let offset = range.start;
      for (;;) {
        const { done, value } = reader ? await guard(reader.read()) : { done: true, value: undefined };
        if (done || !value) break;
        if (offset + value.length > range.end)
          throw new FormatError(
            thing,
            "an answer of more bytes than its range",
            `${range.end - range.start}`,
          );
        await take(offset, value);
        offset += value.length;
      }
      if (offset < range.end)
        throw new Dropped(
          `the connection ended after ${offset - range.start} of ${range.end - range.start} bytes`,
        );
    }, outer);
  }

  /** What the Hub itself says of the content that a redirect leads to. */
  #compareLink(headers: Headers): void {
    const { thing, bytes, hash } = this.#file;
    const tag = plainTag(headers.get("x-linked-etag"));
    if (tag !== null && /^[0-9a-f]{64}$/.test(tag) && hash.length === 64 && tag !== hash)
      throw new FormatError(thing, `it is ${tag} now and was listed as ${hash}: it changed`);
    const size = headers.get("x-linked-size");
    if (size !== null && Number(size) !== bytes)
      throw new FormatError(thing, `it has ${size} bytes now and was listed with ${bytes}: it changed`);
  }

  #compareTag(response: Response, { host }: URL): void {
    const tag = plainTag(response.headers.get("etag"));
    if (tag === null) return;
    const was = this.#tags.get(host) ?? tag;
    this.#tags.set(host, was);
    if (was !== tag)
      throw new FormatError(
        this.#file.thing,
        `it is ${tag} now and was ${was}: it changed while it was downloaded. Pull again`,
      );
  }
}

function plainTag(tag: string | null): string | null {
  return tag?.replace(/^W\//, "").replaceAll('"', "") ?? null;
}

/** The range that an answer holds: the one asked for or the start of it; the whole file where that was asked for. */
function rangeOf(
  thing: string,
  response: Response,
  asked: { start: number; end: number; bytes: number; whole: boolean },
): { start: number; end: number } {
  const { start, end, bytes, whole } = asked;
  if (response.status !== 206) {
    if (response.headers.get("content-type")?.startsWith("text/html") && !thing.endsWith(".html"))
      throw new NibbleError("io", `${thing}: the server sends a page (text/html) and no file`);
    // Also after a drop: the whole file once more, from its start.
    if (whole) return { start: 0, end: bytes };
    throw new NibbleError(
      "io",
      `${thing}: the server ignores Range (a proxy?) and sends the whole file at each request`,
    );
  }
  const range = contentRange(thing, response);
  if (range === null) return { start, end };
  if (range.size !== null && range.size !== bytes)
    throw new FormatError(thing, `it has ${range.size} bytes and is listed with ${bytes}: it changed`);
  if (range.start !== start || range.end > end)
    throw new FormatError(
      thing,
      `an answer with bytes ${range.start} to ${range.end}`,
      `${start} to ${end}, the range asked for`,
    );
  return range;
}
