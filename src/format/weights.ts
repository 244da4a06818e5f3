/**
 * The weights of a safetensors folder by name. Arrays that cannot be weights (int64 position ids, fp8, a scalar of a
 * foreign dtype) are left out of the listing; when one is asked for, `get` throws the reason.
 */
import { UnsupportedError } from "./errors.ts";
import type { Tensor } from "./tensor.ts";

export class Weights extends Map<string, Tensor> {
  readonly #unreadable = new Map<string, { thing: string; wayOut?: string }>();

  /** Names of what is in the files and is no weight, with the reason. */
  get unreadable(): ReadonlyMap<string, { thing: string; wayOut?: string }> {
    return this.#unreadable;
  }

  /** Records what `name` is instead of a weight. It counts as present, so that no caller takes it for an optional one left out. */
  addUnreadable(name: string, thing: string, wayOut?: string): void {
    this.#unreadable.set(name, { thing, wayOut });
  }

  override has(name: string): boolean {
    return super.has(name) || this.#unreadable.has(name);
  }

  /** The tensor; undefined when the checkpoint has none. UnsupportedError when it has one of an unreadable kind. */
  override get(name: string): Tensor | undefined {
    const reason = this.#unreadable.get(name);
    if (reason) throw new UnsupportedError(reason.thing, reason.wayOut);
    return super.get(name);
  }
}
