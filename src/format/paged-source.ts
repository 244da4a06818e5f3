/**
 * A Source for places where each request is expensive (HTTP, a page's File): pages are fetched several per request and
 * kept for a while. Sequential reads prefetch, so that loading does not wait for a round trip per piece.
 */
import { checkRange } from "./buffer-source.ts";
import type { Source } from "./source.ts";

export const PAGE_BYTES = 1024 * 1024;
/** Pages of one request: 8 MiB take about as long as a round trip and a redirect on a fast line. */
const RUN_PAGES = 8;
/** Pages fetched ahead at most: two requests besides the awaited one. */
const AHEAD_PAGES = 2 * RUN_PAGES;
/** Pages kept: more than are in use at once, so that reads may go back a little, as for the tensors of one layer. */
const PAGES_KEPT = 4 * RUN_PAGES;

/** `first`: page 0, if it is known already. Closing it closes `source`. */
export function pagedSource(source: Source, first?: Uint8Array): Source {
  const { name, size } = source;
  const pageCount = Math.ceil(size / PAGE_BYTES);
  /** By number, the most recently used last; promises, so that two reads of a page fetch it once. */
  const pages = new Map<number, Promise<Uint8Array>>();
  if (first) pages.set(0, Promise.resolve(first));
  /** The end of the last read. */
  let last = 0;

  const keep = (number: number, page: Promise<Uint8Array>) => {
    pages.delete(number);
    pages.set(number, page);
    if (pages.size > PAGES_KEPT) pages.delete(pages.keys().next().value!);
  };
  const fetchRun = (from: number, to: number) => {
    const bytes = new Uint8Array(Math.min(to * PAGE_BYTES, size) - from * PAGE_BYTES);
    const run = source.read(from * PAGE_BYTES, bytes);
    for (let number = from; number < to; number++) {
      const start = (number - from) * PAGE_BYTES;
      const page = run.then(() => bytes.subarray(start, start + PAGE_BYTES));
      keep(number, page);
      // The next read tries again.
      page.catch(() => pages.get(number) === page && pages.delete(number));
    }
  };
  /** Pages [from, to); missing ones are fetched in runs. */
  const take = (from: number, to: number): Promise<Uint8Array>[] => {
    const taken: Promise<Uint8Array>[] = [];
    for (let number = from; number < to; number++) {
      let end = number;
      while (end < to && end - number < RUN_PAGES && !pages.has(end)) end++;
      if (end > number) fetchRun(number, end);
      const page = pages.get(number)!;
      keep(number, page);
      taken.push(page);
    }
    return taken;
  };

  return {
    name,
    size,
    async read(offset, into) {
      checkRange(name, size, offset, into.length);
      const end = offset + into.length;
      const goesOn = Math.abs(offset - last) <= PAGE_BYTES;
      last = end;
      const firstPage = Math.floor(offset / PAGE_BYTES);
      const endPage = Math.ceil(end / PAGE_BYTES);
      // Twice as far ahead as is read at once.
      const reach = Math.min(2 * (endPage - firstPage), AHEAD_PAGES);
      for (let from = firstPage; from < endPage; from += RUN_PAGES) {
        const to = Math.min(from + RUN_PAGES, endPage);
        const taken = take(from, to);
        // Whole runs for long reads, so that the next request is not left with a few pages.
        const ahead = to + reach - (reach === AHEAD_PAGES ? to % RUN_PAGES : 0);
        if (goesOn) take(to, Math.min(ahead, pageCount));
        const bytes = await Promise.all(taken);
        bytes.forEach((page, i) => {
          const start = (from + i) * PAGE_BYTES;
          const part = page.subarray(Math.max(offset - start, 0), end - start);
          into.set(part, Math.max(start - offset, 0));
        });
      }
    },
    close() {
      pages.clear();
      return source.close();
    },
  };
}
