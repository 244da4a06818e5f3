/**
 * A Source for places where each read is dear (HTTP, a page's File): small reads come from pages that are fetched whole
 * and kept for a while, large ones go straight through. Owns the pages; refuses to know where they come from. One idea:
 * headers are parsed and small tensors read in order, so the next small read is nearly always on a page that is here.
 */
import { checkRange } from "./buffer-source.ts";
import type { Source } from "./source.ts";

/** Also the least length of a read that goes straight through. */
export const PAGE_BYTES = 1024 * 1024;

const PAGES_KEPT = 8;

/** `first`: bytes of page 0 that are known already. Closing it closes `source`. */
export function pagedSource(source: Source, first?: Uint8Array): Source {
  const { name, size } = source;
  /** By number, the one used last at the end; promises, so that two reads of a page fetch it once. */
  const pages = new Map<number, Promise<Uint8Array>>();
  if (first && first.length === Math.min(size, PAGE_BYTES)) pages.set(0, Promise.resolve(first));

  const fetchPage = async (number: number) => {
    const start = number * PAGE_BYTES;
    const bytes = new Uint8Array(Math.min(PAGE_BYTES, size - start));
    await source.read(start, bytes);
    return bytes;
  };
  const page = (number: number) => {
    const found = pages.get(number) ?? fetchPage(number);
    pages.delete(number);
    pages.set(number, found);
    if (pages.size > PAGES_KEPT) pages.delete(pages.keys().next().value!);
    // Whoever asks next tries again.
    found.catch(() => pages.get(number) === found && pages.delete(number));
    return found;
  };

  return {
    name,
    size,
    async read(offset, into) {
      checkRange(name, size, offset, into.length);
      if (into.length >= PAGE_BYTES) return source.read(offset, into);
      const end = offset + into.length;
      const parts: Promise<void>[] = [];
      for (let number = Math.floor(offset / PAGE_BYTES); number * PAGE_BYTES < end; number++) {
        const start = number * PAGE_BYTES;
        const from = Math.max(offset, start);
        const to = Math.min(end, start + PAGE_BYTES);
        parts.push(
          page(number).then((bytes) => into.set(bytes.subarray(from - start, to - start), from - offset)),
        );
      }
      await Promise.all(parts);
    },
    close() {
      pages.clear();
      return source.close();
    },
  };
}
