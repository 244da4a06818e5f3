/**
 * Formats that differ by layer: a format, followed by exceptions, of which later ones take precedence:
 * "kv4+f16@0-1+f16@last". Layers are given by number from 0, as a range of numbers, or as `first`, `last`, `even`,
 * `odd`, `sliding`, `full`. "+apart": keys and values are stored separately even if one vector could serve as both
 * (Gemma 4's full layers).
 */
import type { KvCodec } from "../device/contract.ts";
import { ArgumentError } from "../format/errors.ts";
import { KV_NAMES, kvCodec } from "./codecs.ts";

/** What the choice of a format depends on. */
interface CachedLayer {
  readonly index: number;
  /** Layers of the model. */
  readonly count: number;
  readonly isSliding: boolean;
}

/** Named formats that differ by layer. kv3: keys of 3.5 bits on average, which no single width gives. */
const LAYERED: { readonly [name: string]: string } = {
  kv3: "k3c-v3r-n128-f32+k4c-v3r-n128-f32@even",
};

/** What formats are called. A device has kernels for some (device/check.ts). */
export const FORMAT_NAMES: readonly string[] = [...KV_NAMES, ...Object.keys(LAYERED)];

type IsMeant = (layer: CachedLayer) => boolean;

const NAMED: { readonly [name: string]: IsMeant } = {
  first: ({ index }) => index === 0,
  last: ({ index, count }) => index === count - 1,
  even: ({ index }) => index % 2 === 0,
  odd: ({ index }) => index % 2 === 1,
  sliding: ({ isSliding }) => isSliding,
  full: ({ isSliding }) => !isSliding,
};

const APART = "apart";

export interface LayerFormats {
  /** All named formats. */
  readonly codecs: readonly KvCodec[];
  readonly apart: boolean;
  of(layer: CachedLayer): KvCodec;
}

/** Throws ArgumentError for an invalid format or invalid layers. */
export function layerFormats(text: string): LayerFormats {
  const [name, ...rest] = text.split("+");
  const alias = Object.hasOwn(LAYERED, name) ? LAYERED[name] : null;
  if (alias !== null) return layerFormats([alias, ...rest].join("+"));
  const named = rest.filter((one) => one !== APART);
  const exceptions = named.map((one) => {
    const [name, layers, ...more] = one.split("@");
    if (layers === undefined || more.length > 0)
      throw new ArgumentError("exception of a KV cache format", JSON.stringify(one), 'such as "f16@0-3"');
    return { codec: kvCodec(name), isMeant: meant(layers) };
  });
  const codec = kvCodec(name);
  return {
    codecs: [codec, ...exceptions.map((one) => one.codec)],
    apart: named.length < rest.length,
    of: (layer) => exceptions.findLast(({ isMeant }) => isMeant(layer))?.codec ?? codec,
  };
}

function meant(layers: string): IsMeant {
  if (Object.hasOwn(NAMED, layers)) return NAMED[layers];
  const found = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(layers);
  if (!found)
    throw new ArgumentError(
      "layers of a KV cache format",
      JSON.stringify(layers),
      `a number, a range such as 0-3, ${Object.keys(NAMED).join(", ")}`,
    );
  const from = Number(found[1]);
  const to = Number(found[2] ?? found[1]);
  return ({ index }) => index >= from && index <= to;
}
