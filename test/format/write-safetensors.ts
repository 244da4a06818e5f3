/** Writes .safetensors files for tests, right or wrong: the header can be replaced wholesale. */
export interface WrittenEntry {
  dtype: string;
  shape: readonly number[];
  data: Uint8Array;
}

export function writeSafetensors(entries: Record<string, WrittenEntry>, extra: object = {}): Uint8Array {
  const header: Record<string, unknown> = { ...extra };
  let end = 0;
  for (const [name, { dtype, shape, data }] of Object.entries(entries)) {
    header[name] = { dtype, shape, data_offsets: [end, end + data.length] };
    end += data.length;
  }
  return withHeader(
    JSON.stringify(header),
    Object.values(entries).map(({ data }) => data),
  );
}

/** A file of this header text and these bytes after it; `length` is what the file says of the header's. */
export function withHeader(header: string, pieces: readonly Uint8Array[] = [], length?: bigint): Uint8Array {
  const text = new TextEncoder().encode(header);
  const front = new Uint8Array(8);
  new DataView(front.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  return new Uint8Array(Buffer.concat([front, text, ...pieces]));
}
