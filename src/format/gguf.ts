/**
 * GGUF checkpoints: one file, or the parts made by `gguf-split` (name-00001-of-00003.gguf). This file finds the parts
 * and checks that they belong together; gguf-header.ts reads each. Sources are passed in, so parts may be on disk or on
 * an HTTP server.
 */
import { FormatError, UnsupportedError } from "./errors.ts";
import { type Folder, openFile } from "./folder.ts";
import { type GgufHeader, readGgufHeader } from "./gguf-header.ts";
import { describeValue, type Metadata, quote } from "./gguf-metadata.ts";
import { joinScales } from "./nvfp4.ts";
import type { Source } from "./source.ts";
import type { Tensor } from "./tensor.ts";

export interface GgufFile extends GgufHeader {
  close(): Promise<void>;
}

/**
 * Reads the header of a GGUF file and, if it is split, of all its parts (any part may be given). The other parts are
 * looked for in `folder`. Takes over `source`: `close` closes it, and so does a failure here. Throws FormatError for a
 * damaged file or parts that do not match, UnsupportedError for versions and tensor types.
 */
export async function readGguf(source: Source, folder?: Folder): Promise<GgufFile> {
  const sources = [source];
  const close = async () => {
    await Promise.all(sources.map((open) => open.close()));
  };
  try {
    const header = await readGgufHeader(source);
    const whole =
      partsOf(source.name, header.metadata) <= 1 ? header : await readParts(source, header, folder, sources);
    return { ...whole, tensors: joinScales(source.name, whole.tensors), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The name of part `part` (from 0) if `file` is one of `parts` parts; null if its name is not that of a part. */
export function ggufPartName(
  file: string,
  part: number,
): { name: string; part: number; parts: number } | null {
  const match = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/.exec(file);
  if (!match) return null;
  const name = `${match[1]}-${String(part + 1).padStart(5, "0")}-of-${match[3]}.gguf`;
  return { name, part: Number(match[2]) - 1, parts: Number(match[3]) };
}

/** Opens the other parts of `source` and adds each to `sources` as soon as it is open. */
async function readParts(
  source: Source,
  given: GgufHeader,
  folder: Folder | undefined,
  sources: Source[],
): Promise<GgufHeader> {
  const parts = partsOf(source.name, given.metadata);
  const file = source.name.slice(Math.max(source.name.lastIndexOf("/"), source.name.lastIndexOf("\\")) + 1);
  const own = ggufPartName(file, 0);
  if (own === null || own.parts !== parts || own.part < 0 || own.part >= parts) {
    const allowed = `names that end in -00001-of-${String(parts).padStart(5, "0")}.gguf`;
    throw new FormatError(source.name, `a part of ${parts} under this name`, allowed);
  }
  if (!folder) throw new UnsupportedError(`${source.name}: a split GGUF without access to its folder`);

  const tensors = new Map<string, Tensor>();
  const dims = new Map<string, readonly number[]>();
  let { metadata, layout } = given;
  for (let part = 0; part < parts; part++) {
    const { name } = ggufPartName(file, part)!;
    const header = part === own.part ? given : await readPart(folder, name, sources);
    checkPart(`${folder.name}/${name}`, header.metadata, part, parts);
    if (part === 0) ({ metadata, layout } = header);
    for (const [name, own] of header.layout.dims) dims.set(name, own);
    for (const tensor of header.tensors.values()) {
      if (tensors.has(tensor.name)) {
        throw new FormatError(
          `${folder.name}/${name}`,
          `tensor ${quote(tensor.name)} is also in an earlier part`,
        );
      }
      tensors.set(tensor.name, tensor);
    }
  }
  const promised = metadata["split.tensors.count"];
  if (promised !== undefined && promised !== tensors.size) {
    throw new FormatError(
      source.name,
      `${tensors.size} tensors in ${parts} parts`,
      `${describeValue(promised)}`,
    );
  }
  return { metadata, tensors, layout: { ...layout, dims } };
}

async function readPart(folder: Folder, name: string, sources: Source[]): Promise<GgufHeader> {
  const source = await openFile(folder, name);
  if (source === null)
    throw new FormatError(`${folder.name}/${name}`, "this part of a split GGUF is missing");
  sources.push(source);
  return readGgufHeader(source);
}

function checkPart(place: string, metadata: Metadata, part: number, parts: number): void {
  if (metadata["split.no"] !== part || metadata["split.count"] !== parts) {
    const found = `part ${describeValue(metadata["split.no"])} of ${describeValue(metadata["split.count"])}, counted from 0`;
    throw new FormatError(place, found, `part ${part} of ${parts}`);
  }
}

/** The number of parts according to the key-values; 1 if they have none. */
function partsOf(place: string, metadata: Metadata): number {
  const parts = metadata["split.count"] ?? 0;
  // The number in a name has five digits.
  if (Number.isInteger(parts) && (parts as number) >= 0 && (parts as number) <= 99_999)
    return parts as number;
  throw new FormatError(place, `split.count is ${describeValue(parts)}`, "integers 0 to 99999");
}
