/**
 * A part of a spec as a function over the vectors of one head: transform the input (mean, scale, rotation, in this order),
 * apply the method, and undo the transform.
 * One idea: a change of what a method sees, but not of what the model computes, is a view; so a fold of the weights, a constant
 * on the keys and another draw of the rounding are measured without touching the model.
 */
import type { KvPart } from "../device/contract.ts";
import { UnsupportedError } from "../format/errors.ts";
import { type KeyStats, keyView } from "./key-profile.ts";
import { eachVector, type Method, type Needs } from "./methods/method.ts";
import type { Methods } from "./methods/methods.ts";
import { rotateBack, rotate as rotateVector } from "./methods/random.ts";
import type { Part, Spec } from "./types.ts";

/** One head of a layer. */
export interface Place {
  readonly layer: number;
  readonly kvHead: number;
}

/** Calibrated statistics of a head's keys. */
export type KeysOf = (place: Place) => KeyStats;

export interface Holding {
  readonly needs: Needs;
  /** vectors [tokens, headDim] become what a cache of this kind would return. */
  apply(vectors: Float32Array, headDim: number, place: Place): void;
}

/**
 * Other draws scale the values by another factor between 1 and 2, so that rounding errors differ; random
 * methods get other seeds, too. Draw 0: unchanged.
 */
function drawFactor(draw: number): number {
  return draw === 0 ? 1 : 2 ** ((draw * 0.618033988749895) % 1);
}

/** null: the part stays f16. `known`: of the calibrated keys; null where there are none. */
export function holding(
  spec: Spec,
  which: KvPart,
  methods: Methods,
  draw: number,
  known: KeysOf | null,
): Holding | null {
  const part: Part = spec[which];
  const method: Method = methods.of(part, which);
  if (part.method === "f16") return null;
  // The multiple of the mean that is subtracted before the method: 1, 0, or negative.
  const off = which === "values" ? 0 : part.mean ? 1 : 1 - spec.keyMean;
  const seen = which === "keys" ? (spec.keyProfile ?? null) : null;
  if ((off !== 0 || seen) && !known)
    throw new UnsupportedError("keys less their mean, or with another profile, before calibration");
  const factor = (which === "keys" ? spec.keyScale : 1) * drawFactor(draw);
  const { bits, group, rotate } = part;
  const seed = draw;
  return {
    needs: method.needs[which],
    apply(vectors, headDim, place) {
      const view = seen && keyView(known!(place), seen, 1 - off);
      const shift = off === 0 || view ? null : known!(place).mean.map((x) => x * off);
      eachVector(vectors, headDim, (vector) => {
        if (view)
          for (let i = 0; i < headDim; i++)
            vector[i] = (vector[i] - view.mean[i]) * view.gain[i] + view.shown[i];
        if (shift) for (let i = 0; i < headDim; i++) vector[i] -= shift[i];
        if (factor !== 1) for (let i = 0; i < headDim; i++) vector[i] *= factor;
        if (rotate) rotateVector(vector, seed);
      });
      method.apply(vectors, { bits, group, headDim, part: which, seed });
      eachVector(vectors, headDim, (vector) => {
        if (rotate) rotateBack(vector, seed);
        if (factor !== 1) for (let i = 0; i < headDim; i++) vector[i] /= factor;
        if (shift) for (let i = 0; i < headDim; i++) vector[i] += shift[i];
        if (view)
          for (let i = 0; i < headDim; i++)
            vector[i] = (vector[i] - view.shown[i]) / view.gain[i] + view.mean[i];
      });
    },
  };
}
