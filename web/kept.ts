/** The browser's storage, which may be full or refused: then the result is null and nothing is saved. */
export function kept<Value>(work: () => Value): Value | null {
  try {
    return work();
  } catch {
    return null;
  }
}
