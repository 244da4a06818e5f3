/**
 * Packs the Params of kernels into bytes, by the fields that their WGSL declares. Separate from the kernels' texts,
 * because plans pack Params, too.
 */
import { ArgumentError } from "../../format/errors.ts";
import { PARAMS, type ParamsOf } from "./kernel-params.ts";

/** Params as the uniform buffer holds them. Every field must be given: a missing one is an error, not a zero. */
export function packParams<Name extends keyof ParamsOf>(
  kernel: Name,
  params: ParamsOf[Name],
): Uint32Array<ArrayBuffer> {
  const fields: readonly (readonly [string, string])[] = PARAMS[kernel];
  // Uniform structs are read in units of 16 bytes.
  const words = new Uint32Array(Math.ceil(fields.length / 4) * 4);
  const floats = new Float32Array(words.buffer);
  fields.forEach(([name, type], i) => {
    const value = (params as Record<string, number>)[name];
    if (!Number.isFinite(value)) throw new ArgumentError(`${kernel} Params.${name}`, value, "finite numbers");
    if (type === "f32") floats[i] = value;
    else words[i] = value;
  });
  return words;
}
