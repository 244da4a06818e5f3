/**
 * An importance matrix as a file: the GGUF that llama.cpp's imatrix writes and its quantizer reads. For each tensor
 * NAME it has NAME.in_sum2 [cols, experts] and NAME.counts [1, experts].
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { FormatError } from "../format/errors.ts";
import { planFile, valueBytes } from "../format/gguf-write.ts";
import { writeNewFile } from "../format/new-file.ts";
import { openCheckpoint } from "../format/open.ts";
import type { Tensor } from "../format/tensor.ts";
import { f32Rows } from "../model/tensors.ts";
import type { Importance, ImportanceMatrix } from "./importance.ts";

const SUMS = ".in_sum2";
const COUNTS = ".counts";
const KEYS = { datasets: "imatrix.datasets", chunks: "imatrix.chunk_count", tokens: "imatrix.chunk_size" };

/** Throws NibbleError "io", and FormatError for another kind of file or invalid numbers. */
export async function readImportance(path: string): Promise<ImportanceMatrix> {
  const file = await openCheckpoint(path);
  try {
    const kind = file.metadata["general.type"];
    if (kind !== "imatrix")
      throw new FormatError(
        path,
        `general.type ${JSON.stringify(kind) ?? "missing"}`,
        '"imatrix", as llama.cpp and nibble write it, or a text',
      );
    const tensors = new Map<string, Importance>();
    for (const [name, tensor] of file.tensors)
      if (name.endsWith(SUMS))
        tensors.set(
          name.slice(0, -SUMS.length),
          await importanceOf(file, name.slice(0, -SUMS.length), tensor),
        );
    const number = (key: string) => {
      const value = file.metadata[key];
      return typeof value === "number" ? value : 0;
    };
    const datasets = file.metadata[KEYS.datasets];
    return {
      tensors,
      datasets: Array.isArray(datasets) ? datasets.map(String) : [],
      ...{ chunks: number(KEYS.chunks), chunkTokens: number(KEYS.tokens) },
    };
  } finally {
    await file.close();
  }
}

async function importanceOf(file: Checkpoint, name: string, sums: Tensor): Promise<Importance> {
  const counts = file.tensors.get(name + COUNTS);
  const experts = counts ? counts.rows * counts.cols : 0;
  const size = sums.rows * sums.cols;
  if (!counts || experts < 1 || size % experts !== 0)
    throw new FormatError(
      `${file.name}: ${name}`,
      `${size} sums with ${experts} counts`,
      "as many sums for each count",
    );
  const read = (tensor: Tensor) => f32Rows(tensor, 0, tensor.rows);
  const found = { sums: await read(sums), counts: await read(counts) };
  for (const list of Object.values(found))
    for (const value of list)
      if (!(value >= 0 && value < Number.POSITIVE_INFINITY))
        throw new FormatError(`${file.name}: ${name}`, `${value}`, "finite numbers from 0 on");
  return found;
}

/** Writes the new file `path`. Throws what `writeNewFile` throws. */
export async function writeImportance(path: string, matrix: ImportanceMatrix): Promise<void> {
  const names = [...matrix.tensors.keys()].sort();
  const tensors = names.flatMap((name) => {
    const { sums, counts } = matrix.tensors.get(name)!;
    const experts = counts.length;
    return [
      { name: name + SUMS, dims: [sums.length / experts, experts], values: sums },
      { name: name + COUNTS, dims: [1, experts], values: counts },
    ].map((tensor) => ({ ...tensor, type: "f32" as const }));
  });
  const keys = [
    { key: "general.type", bytes: valueBytes({ string: "imatrix" }) },
    { key: KEYS.datasets, bytes: valueBytes({ strings: matrix.datasets }) },
    { key: KEYS.chunks, bytes: valueBytes({ u32: matrix.chunks }) },
    { key: KEYS.tokens, bytes: valueBytes({ u32: matrix.chunkTokens }) },
  ];
  const file = planFile(keys, tensors, 32);
  await writeNewFile(path, file.bytes, async (append) => {
    await append(file.header);
    for (const [i, { values }] of tensors.entries()) {
      const { offset } = file.places[i];
      const next = file.places[i + 1]?.offset ?? file.bytes;
      const bytes = new Uint8Array(next - offset);
      bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      await append(bytes);
    }
  });
}
