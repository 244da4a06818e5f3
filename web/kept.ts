/** The browser's storage, which may be full or refused: null then, and the page forgets. */
export function kept<Value>(work: () => Value): Value | null {
  try {
    return work();
  } catch {
    return null;
  }
}
