/**
 * The names visible at a place in a template. A `set` is visible in its own scope only: a loop's iteration, a macro, a
 * block.
 */
import { Undefined, type Value } from "./values.ts";

export class Scope {
  readonly #names = new Map<string, Value>();

  constructor(readonly outer: Scope | null = null) {}

  get(name: string): Value {
    for (let scope: Scope | null = this; scope !== null; scope = scope.outer) {
      const found = scope.#names.get(name);
      if (found !== undefined) return found;
    }
    return new Undefined(`'${name}' is undefined`);
  }

  set(name: string, value: Value): void {
    this.#names.set(name, value);
  }
}
