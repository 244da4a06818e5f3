/**
 * The weights of a safetensors folder by name. Arrays that cannot be weights (int64 position ids, fp8, a scalar of a
 * foreign dtype) are not listed; when one is asked for, `get` throws the reason.
 */
import { UnsupportedError } from "./errors.ts";
import type { Tensor } from "./tensor.ts";

export class Weights extends Map<string, Tensor> {
  readonly #unreadable = new Map<string, { thing: string; wayOut?: string }>();

  /** Names of arrays that are not weights, with the reason. */
  get unreadable(): ReadonlyMap<string, { thing: string; wayOut?: string }> {
    return this.#unreadable;
  }

  /**
   * Records why `name` is not a weight. It counts as present, so that no caller mistakes it for a missing optional one.
   */
  addUnreadable(name: string, thing: string, wayOut?: string): void {
    this.#unreadable.set(name, { thing, wayOut });
  }

  override has(name: string): boolean {
    return super.has(name) || this.#unreadable.has(name);
  }

  /** The tensor; undefined if the checkpoint has none. Throws UnsupportedError if its kind cannot be read. */
  override get(name: string): Tensor | undefined {
    const reason = this.#unreadable.get(name);
    if (reason) throw new UnsupportedError(reason.thing, reason.wayOut);
    return super.get(name);
  }
}
