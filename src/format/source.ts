/**
 * Random access to bytes: a file, an HTTP resource, a buffer. Readers ask for ranges and never for the whole.
 * Browser-safe: the source for files on disk is in `file-source.ts`.
 */
export interface Source {
  /** Its name in errors: a path or URL. */
  readonly name: string;
  readonly size: number;
  /** Fills `into` from `offset`; rejects with FormatError unless the whole range is inside. */
  read(offset: number, into: Uint8Array): Promise<void>;
  close(): Promise<void>;
}
