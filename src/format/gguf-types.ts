/**
 * GGUF's numbers for tensor types (ggml.h, enum ggml_type): those that Nibble reads and writes, and the names of
 * others.
 */
import { FormatError, UnsupportedError } from "./errors.ts";
import type { TensorType } from "./tensor.ts";

const TYPES: Readonly<Record<number, TensorType | undefined>> = {
  0: "f32",
  1: "f16",
  2: "q4_0",
  3: "q4_1",
  6: "q5_0",
  7: "q5_1",
  8: "q8_0",
  10: "q2_k",
  11: "q3_k",
  12: "q4_k",
  13: "q5_k",
  14: "q6_k",
  16: "iq2_xxs",
  17: "iq2_xs",
  18: "iq3_xxs",
  19: "iq1_s",
  20: "iq4_nl",
  21: "iq3_s",
  22: "iq2_s",
  23: "iq4_xs",
  29: "iq1_m",
  30: "bf16",
  34: "tq1_0",
  35: "tq2_0",
  39: "mxfp4",
  40: "nvfp4",
  41: "q1_0",
  42: "q2_0",
};

/** Other types, named so that the error can say what the file contains. */
const OTHERS: Readonly<Record<number, string | undefined>> = {
  4: "q4_2",
  5: "q4_3",
  9: "q8_1",
  15: "q8_k",
  24: "i8",
  25: "i16",
  26: "i32",
  27: "i64",
  28: "f64",
  31: "q4_0_4_4",
  32: "q4_0_4_8",
  33: "q4_0_8_8",
  36: "iq4_nl_4_4",
  37: "iq4_nl_4_8",
  38: "iq4_nl_8_8",
};

/** The number of one of our types; null: GGUF does not have it (MLX's). */
export function typeNumber(type: TensorType): number | null {
  const found = Object.entries(TYPES).find(([, name]) => name === type);
  return found ? Number(found[0]) : null;
}

/** Our type for a type number. Throws UnsupportedError for ggml's other types, FormatError for an unknown number. */
export function tensorType(number: number, tensor: string, place: string): TensorType {
  const type = TYPES[number];
  if (type) return type;
  const name = OTHERS[number];
  if (!name)
    throw new FormatError(place, `tensor ${tensor} has type number ${number}`, Object.keys(TYPES).join(", "));
  const readable = Object.values(TYPES).join(", ");
  throw new UnsupportedError(
    `${place}: tensor ${tensor} of type ${name} (${number})`,
    `Supported types: ${readable}.`,
  );
}
