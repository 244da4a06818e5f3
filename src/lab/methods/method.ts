/**
 * A way of holding keys or values, as the lab sees it: a function over float vectors that replaces them by what the cache
 * would return, and a count of its bits. One file a method; from outside, a module whose default export is one.
 */
import type { KvPart } from "../../device/contract.ts";

/** The unit of a method: one token's vector, or the 32 tokens of a page. */
export type Needs = "token" | "page";

export interface Shape {
  readonly bits: number;
  /** Values along the head under one scale; 0: the method's own choice. */
  readonly group: number;
  readonly headDim: number;
  readonly part: KvPart;
}

export interface Setting extends Shape {
  /** The seed of everything random: another seed is another draw of the same method. */
  readonly seed: number;
}

export interface Method {
  readonly name: string;
  /** For people, with its source. */
  readonly title: string;
  readonly needs: Readonly<Record<KvPart, Needs>>;
  /** Bits of a code that it can have. */
  readonly bits: readonly number[];
  /** Groups that it can have; [0]: its own alone. */
  readonly groups: readonly number[];
  /** It rotates by itself, so that a rotation before it would only be another draw. */
  readonly rotates?: boolean;
  /** Bits a value with scales, zeros, norms and outliers. */
  bitsOf(shape: Shape): number;
  /** Quantizes and dequantizes vectors [tokens, headDim] in place: any number of tokens, or those of one page. */
  apply(vectors: Float32Array, setting: Setting): void;
}

/** For methods that treat each vector by itself. */
export const BY_TOKEN: Method["needs"] = { keys: "token", values: "token" };

/** Each vector [headDim] of `vectors`, in place. */
export function eachVector(
  vectors: Float32Array,
  headDim: number,
  change: (vector: Float32Array) => void,
): void {
  for (let at = 0; at < vectors.length; at += headDim) change(vectors.subarray(at, at + headDim));
}
