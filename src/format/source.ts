/**
 * Random access to bytes: a file, an HTTP resource, a buffer. The readers of this room ask for ranges and never
 * for the whole. Browser-safe: the file source lives in `file-source.ts`.
 */
export interface Source {
  /** What to call it in an error: a path or URL. */
  readonly name: string;
  readonly size: number;
  /** Fills `into` from `offset`; rejects with FormatError when the range is not wholly inside. */
  read(offset: number, into: Uint8Array): Promise<void>;
  close(): Promise<void>;
}
