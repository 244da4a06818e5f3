/** Losses by position as a result keeps them: base64 of float32 and of bits, and their summary. */
import { quantile } from "../study/verify/divergence.ts";
import { sha256 } from "./hash.ts";
import type { ResultEntry } from "./types.ts";

/** KL by position, and whether the most likely token is the same. */
export interface Losses {
  readonly kl: Float32Array;
  readonly same: readonly boolean[];
}

export type LossFields = Pick<
  ResultEntry,
  "klMean" | "klError" | "kl999" | "sameTop" | "losses" | "tops" | "digest"
>;

export function packLosses({ kl, same }: Losses): LossFields {
  const count = kl.length;
  const klMean = sum(kl) / count;
  const variance = kl.reduce((all, x) => all + (x - klMean) ** 2, 0) / Math.max(1, count - 1);
  const bits = new Uint8Array(Math.ceil(count / 8));
  same.forEach((is, i) => {
    if (is) bits[i >> 3] |= 1 << (i & 7);
  });
  // Little-endian whatever the machine.
  const bytes = new Uint8Array(count * 4);
  const view = new DataView(bytes.buffer);
  kl.forEach((x, i) => {
    view.setFloat32(i * 4, x, true);
  });
  return {
    klMean,
    klError: Math.sqrt(variance / count),
    kl999: quantile(Float32Array.from(kl).sort(), 0.999),
    sameTop: same.filter(Boolean).length / count,
    losses: Buffer.from(bytes).toString("base64"),
    tops: Buffer.from(bits).toString("base64"),
    digest: sha256(bytes),
  };
}

export function unpackLosses({ losses, tops }: Pick<ResultEntry, "losses" | "tops">): Losses {
  const bytes = Buffer.from(losses, "base64");
  const bits = Buffer.from(tops, "base64");
  const kl = Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(i * 4));
  return { kl, same: Array.from(kl, (_, i) => ((bits[i >> 3] >> (i & 7)) & 1) === 1) };
}

const sum = (list: Float32Array) => list.reduce((all, x) => all + x, 0);
