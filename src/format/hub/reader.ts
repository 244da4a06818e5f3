/**
 * Reads one file of the Hub by ranges over several connections. The address that the Hub redirects to is kept, since
 * asking the Hub for each range would reach its rate limit. Every response is checked against the Hub's listing: size,
 * range, and tags that show a changed file.
 */
import { FormatError, NibbleError } from "../errors.ts";
import { contentRange, Dropped } from "../http-answer.ts";
import type { HubClient } from "./client.ts";

/** Receives bytes at an offset of the file; what it does not accept is requested again. */
export type Sink = (offset: number, bytes: Uint8Array) => Promise<void>;

/** A file on the Hub, read by ranges over several connections. */
export class HubFileReader {
  readonly #client: HubClient;
  readonly #url: URL;
  readonly #file: { readonly thing: string; readonly bytes: number; readonly hash: string };
  /** The address that the Hub redirected to, while it works. */
  #at: URL | null = null;
  readonly #tags = new Map<string, string>();

  /** hash: SHA-256 of the content, or git's SHA-1 for a small file. */
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
   * Passes all bytes from `start` to `end` to the sink, in order, until `signal` fires. Throws NibbleError "io" if the
   * Hub is unreachable, FormatError for another range, another size or a file that changed.
   */
  async read(start: number, end: number, sink: Sink, signal: AbortSignal): Promise<void> {
    let at = start;
    const whole = start === 0 && end === this.#file.bytes;
    // If the whole file is sent again from its start, the bytes already received are skipped: they may be hashed
    // already.
    const take: Sink = async (offset, bytes) => {
      if (offset + bytes.length <= at) return;
      await sink(at, bytes.subarray(at - offset));
      at = offset + bytes.length;
    };
    const step = async () => {
      // The last bytes may have arrived before the connection broke.
      if (at < end) await this.#exchange(at, end, whole, take, signal);
    };
    while (at < end) await this.#client.attempt(this.#file.thing, step, () => at, signal);
  }

  /** One request for the rest; the server may send less. */
  async #exchange(start: number, end: number, whole: boolean, take: Sink, outer: AbortSignal): Promise<void> {
    const { thing, bytes } = this.#file;
    await this.#client.exchange(async (guard, signal) => {
      const headers: Record<string, string> =
        whole && start === 0 ? {} : { range: `bytes=${start}-${end - 1}` };
      const kept = this.#at;
      const { response, at, trail } = await this.#client.follow(kept ?? this.#url, headers, guard, signal);
      // Signed addresses expire: request a new one from the Hub.
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
          throw new FormatError(thing, "a response longer than its range", `${range.end - range.start}`);
        await take(offset, value);
        offset += value.length;
      }
      if (offset < range.end)
        throw new Dropped(
          `the connection ended after ${offset - range.start} of ${range.end - range.start} bytes`,
        );
    }, outer);
  }

  /** Compares what the Hub itself says about the content behind a redirect. */
  #compareLink(headers: Headers): void {
    const { thing, bytes, hash } = this.#file;
    const tag = plainTag(headers.get("x-linked-etag"));
    if (tag !== null && /^[0-9a-f]{64}$/.test(tag) && hash.length === 64 && tag !== hash)
      throw new FormatError(thing, `its hash is ${tag} and was listed as ${hash}: it changed`);
    const size = headers.get("x-linked-size");
    if (size !== null && Number(size) !== bytes)
      throw new FormatError(thing, `it has ${size} bytes and was listed with ${bytes}: it changed`);
  }

  #compareTag(response: Response, { host }: URL): void {
    const tag = plainTag(response.headers.get("etag"));
    if (tag === null) return;
    const was = this.#tags.get(host) ?? tag;
    this.#tags.set(host, was);
    if (was !== tag)
      throw new FormatError(
        this.#file.thing,
        `it changed from ${was} to ${tag} while it was downloaded. Pull again`,
      );
  }
}

function plainTag(tag: string | null): string | null {
  return tag?.replace(/^W\//, "").replaceAll('"', "") ?? null;
}

/** The range of a response: the requested one or its beginning; the whole file if that was requested. */
function rangeOf(
  thing: string,
  response: Response,
  asked: { start: number; end: number; bytes: number; whole: boolean },
): { start: number; end: number } {
  const { start, end, bytes, whole } = asked;
  if (response.status !== 206) {
    if (response.headers.get("content-type")?.startsWith("text/html") && !thing.endsWith(".html"))
      throw new NibbleError("io", `${thing}: the server sent a page (text/html) instead of a file`);
    // Also after a dropped connection: the whole file again, from its start.
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
      `a response with bytes ${range.start} to ${range.end}`,
      `${start} to ${end}, the requested range`,
    );
  return range;
}
