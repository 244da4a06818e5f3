/**
 * Default sampling: as the model's makers recommend, else with a temperature that suits most chat models. Also the ids
 * that are never generated.
 */
import type { MakersSampling } from "../format/makers-sampling.ts";
import type { SampleOptions } from "./sample.ts";

/**
 * For models with a chat template and no recommendation. Text without a template is continued by its most likely
 * tokens.
 */
const TALKING: SampleOptions = { temperature: 0.7 };

/** Models without settings in their files, by `general.name`. needle-14m, ours, answers questions about facts. */
const KNOWN: Readonly<Record<string, SampleOptions>> = { "Needle 14M": { temperature: 0 } };

export function defaultSampling(makers: MakersSampling | null, name: string, talks: boolean): SampleOptions {
  const { suppress: _ids, suppressFirst: _first, ...said } = makers ?? { suppress: [], suppressFirst: [] };
  if (Object.keys(said).length > 0 && (said.temperature !== undefined || !talks)) return said;
  const own = Object.hasOwn(KNOWN, name) ? KNOWN[name] : talks ? TALKING : {};
  return { ...own, ...said };
}

/** Ids that a generation never produces; those of `first` not as its first token. */
export class Suppressed {
  readonly #always: ReadonlySet<number>;
  readonly #first: ReadonlySet<number>;
  readonly #masks: readonly [always: Int32Array, first: Int32Array];

  private constructor(always: readonly number[], first: readonly number[], vocab: number) {
    this.#always = new Set(always);
    this.#first = new Set([...always, ...first]);
    this.#masks = [without(this.#always, vocab), without(this.#first, vocab)];
  }

  /** null: none. Ids beyond the vocabulary never come anyway. */
  static of(makers: MakersSampling | null, vocab: number): Suppressed | null {
    const within = (ids: readonly number[] = []) => ids.filter((id) => id < vocab);
    const [always, first] = [within(makers?.suppress), within(makers?.suppressFirst)];
    return always.length + first.length > 0 ? new Suppressed(always, first, vocab) : null;
  }

  has(id: number, isFirst: boolean): boolean {
    return (isFirst ? this.#first : this.#always).has(id);
  }

  /**
   * Restricts `allowed` (tokens.ts: a bit for each id; null: all) to ids that may be generated. If nothing else is
   * allowed, the constraint takes precedence.
   */
  within(allowed: Int32Array | null, isFirst: boolean): Int32Array | null {
    const own = this.#masks[isFirst ? 1 : 0];
    if (!allowed) return own;
    const both = allowed.map((word, i) => word & own[i]);
    return both.some((word) => word !== 0) ? both : allowed;
  }
}

function without(ids: ReadonlySet<number>, vocab: number): Int32Array {
  const mask = new Int32Array(Math.ceil(vocab / 32)).fill(-1);
  for (const id of ids) mask[id >> 5] &= ~(1 << (id & 31));
  return mask;
}
