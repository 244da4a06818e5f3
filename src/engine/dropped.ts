/**
 * Generators that hold a place in the cache, in hands that may forget them. `for await` ends them whichever way the loop is left; who
 * calls `next` by hand and drops the rest ends nothing, and the place would stay taken for ever. One idea: what is handed
 * out is a shell; when the collector finds that nothing refers to it any more, the generator inside is ended.
 */

/** Held by the registry until the shell is gone: the generator must not know its shell. */
const registry = new FinalizationRegistry<AsyncGenerator<unknown, unknown, undefined>>((inner) => {
  // An error has no one to go to.
  inner.return(undefined).catch(() => {});
});

/** The generator, ended when it is dropped: by then at the latest, so that it is a net and no way to end it. */
export function endedWhenDropped<Item, Result>(
  inner: AsyncGenerator<Item, Result, undefined>,
): AsyncGenerator<Item, Result, undefined> {
  const shell = new Shell(inner);
  registry.register(shell, inner);
  return shell;
}

class Shell<Item, Result> implements AsyncGenerator<Item, Result, undefined> {
  readonly #inner: AsyncGenerator<Item, Result, undefined>;

  constructor(inner: AsyncGenerator<Item, Result, undefined>) {
    this.#inner = inner;
  }

  next(): Promise<IteratorResult<Item, Result>> {
    return this.#inner.next();
  }

  return(value: Result | PromiseLike<Result>): Promise<IteratorResult<Item, Result>> {
    return this.#inner.return(value);
  }

  throw(error: unknown): Promise<IteratorResult<Item, Result>> {
    return this.#inner.throw(error);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inner.return(undefined as Result);
  }
}
