/** A value that the page is drawn from, and listeners for its changes. */
import { useLayoutEffect, useState } from "preact/hooks";

export class Store<State extends object> {
  #state: State;
  readonly #listeners = new Set<() => void>();

  constructor(state: State) {
    this.#state = state;
  }

  get state(): State {
    return this.#state;
  }

  set(change: Partial<State>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of this.#listeners) listener();
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** Draws the component again whenever the store changes. */
export function useStore<State extends object>(store: Store<State>): State {
  const [, draw] = useState({});
  const drawn = store.state;
  // Before the browser paints: an effect would come later, and what changed until then would never be drawn.
  useLayoutEffect(() => {
    if (store.state !== drawn) draw({});
    return store.subscribe(() => draw({}));
  }, [store]);
  return drawn;
}
