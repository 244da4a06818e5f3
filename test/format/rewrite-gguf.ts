/** A GGUF file with other keys or tensors: everything else is written as it was read. Tensors become float32. */
import { bufferSource } from "../../src/format/buffer-source.ts";
import { readGguf } from "../../src/format/gguf.ts";
import { f32Rows } from "../../src/model/tensors.ts";
import { type KeyValue, T, type WrittenTensor, writeGguf } from "./write-gguf.ts";

export interface GgufContent {
  keys: KeyValue[];
  tensors: WrittenTensor[];
}

export async function rewriteGguf(
  bytes: Uint8Array,
  edit: (content: GgufContent) => void,
): Promise<Uint8Array> {
  const { metadata, tensors } = await readGguf(bufferSource("file", bytes));
  const content: GgufContent = {
    keys: Object.entries(metadata).map(([key, value]) => typedKey(key, value)),
    tensors: [],
  };
  for (const tensor of tensors.values()) {
    const { name, rows, cols } = tensor;
    const values = await f32Rows(tensor, 0, rows);
    content.tensors.push({
      name,
      dims: rows === 1 ? [cols] : [cols, rows],
      type: 0,
      data: new Uint8Array(values.buffer),
    });
  }
  edit(content);
  return writeGguf(content);
}

/** A value as readGguf gives it, with a type that holds it. */
export function typedKey(key: string, value: unknown): KeyValue {
  if (typeof value === "string") return [key, T.string, value];
  if (typeof value === "boolean") return [key, T.bool, value ? 1 : 0];
  if (typeof value === "number") return [key, Number.isInteger(value) && value >= 0 ? T.u32 : T.f32, value];
  const items = Array.from(value as ArrayLike<unknown>);
  const type = typeof items[0] === "string" ? T.string : value instanceof Float32Array ? T.f32 : T.i32;
  return [key, T.array, { type, items }];
}
