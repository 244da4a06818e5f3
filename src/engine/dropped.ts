/**
 * Generators that hold resources and may be dropped. `for await` ends a generator however the loop is left; a caller
 * that uses `next` and drops the generator would keep its place in the cache for ever. So callers get a shell; when it
 * is garbage collected, the generator inside is ended.
 */

/** Held by the registry until the shell is gone: the generator must not refer to its shell. */
const registry = new FinalizationRegistry<AsyncGenerator<unknown, unknown, undefined>>((inner) => {
  // There is no caller for an error.
  inner.return(undefined).catch(() => {});
});

/** The generator, which is ended when it is dropped. This is a safety net, not a way to end it. */
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
