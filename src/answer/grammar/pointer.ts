/** What a $ref names: a JSON pointer into the schema itself, as a fragment of an address (RFC 6901). */

/** The names on the path from the root; null: not a pointer into this schema. */
export function pointerPath(reference: string): readonly string[] | null {
  if (reference !== "#" && !reference.startsWith("#/")) return null;
  try {
    const names = decodeURIComponent(reference).split("/").slice(1);
    if (names.some((name) => /~(?![01])/.test(name))) return null;
    return names.map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
  } catch {
    return null;
  }
}

/** undefined: nothing is there. */
export function valueAt(root: unknown, path: readonly string[]): unknown {
  let at = root;
  for (const name of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, name)) return undefined;
    // "length" of a list is not an item of it.
    if (Array.isArray(at) && !/^(0|[1-9]\d*)$/.test(name)) return undefined;
    at = (at as Record<string, unknown>)[name];
  }
  return at;
}
