/**
 * A Source for places where each request is dear (HTTP, a page's File): everything is fetched in pages, several to a
 * request, and kept for a while. Who reads on from where the last read ended finds the next pages under way, so that
 * loading does not wait for a round trip per piece. Owns the pages; refuses to know where they come from.
 */
import { checkRange } from "./buffer-source.ts";
import type { Source } from "./source.ts";

export const PAGE_BYTES = 1024 * 1024;
/** Pages of one request: 8 MiB take about as long as a round trip and a redirect on a fast line. */
const RUN_PAGES = 8;
/** Pages that are fetched ahead, at most: two requests besides the one that is awaited. */
const AHEAD_PAGES = 2 * RUN_PAGES;
/** More than are in use at once, so that reads may also go back a little, as tensors of one layer do. */
const PAGES_KEPT = 4 * RUN_PAGES;

/** `first`: page 0, where it is known already. Closing it closes `source`. */
export function pagedSource(source: Source, first?: Uint8Array): Source {
  const { name, size } = source;
  const pageCount = Math.ceil(size / PAGE_BYTES);
  /** By number, the one used last at the end; promises, so that two reads of a page fetch it once. */
  const pages = new Map<number, Promise<Uint8Array>>();
  if (first) pages.set(0, Promise.resolve(first));
  /** Where the last read ended. */
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
  /** Pages [from, to), those that are missing fetched in runs. */
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
      // As far ahead as is read at once, twice.
      const reach = Math.min(2 * (endPage - firstPage), AHEAD_PAGES);
      for (let from = firstPage; from < endPage; from += RUN_PAGES) {
        const to = Math.min(from + RUN_PAGES, endPage);
        const taken = take(from, to);
        // Whole runs where much is read, so that the next request has no few pages left over.
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
