/**
 * Whether two graphs differ in their pages alone: the same model for texts of other lengths. A device that has measured
 * one of them need not compile the other. Compares all fields of a graph and of what it lists, so that none can be
 * forgotten.
 */
import type { Graph } from "./contract.ts";

/** The fields that the length of texts decides: of a graph, and of a pool. */
const PAGES: ReadonlySet<string> = new Set(["blocks", "pages"]);

export function sameButPages(a: Graph, b: Graph): boolean {
  return sameFields(a, b, sameList);
}

type Same = (a: unknown, b: unknown) => boolean;

function sameFields(a: object, b: object, same: Same): boolean {
  const names = Object.keys(a);
  if (names.length !== Object.keys(b).length) return false;
  return names.every((name) => PAGES.has(name) || same(fieldOf(a, name), fieldOf(b, name)));
}

function fieldOf(of: object, name: string): unknown {
  return (of as Record<string, unknown>)[name];
}

/** Of a graph: operations, weights and other items, or what an item may have. */
function sameList(a: unknown, b: unknown): boolean {
  if (a instanceof Map && b instanceof Map) return sameList([...a].flat(), [...b].flat());
  if (!Array.isArray(a) || !Array.isArray(b)) return sameField(a, b);
  return a.length === b.length && a.every((item, i) => sameItem(item, b[i]));
}

function sameItem(a: unknown, b: unknown): boolean {
  return isObject(a) && isObject(b) ? sameFields(a, b, sameField) : a === b;
}

/** Of an item: a number, a name, an item that is listed by its id, a rope's frequencies, or a codec. */
function sameField(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (!isObject(a) || !isObject(b)) return false;
  if ("id" in a && "id" in b) return a.id === b.id;
  if (a instanceof Float64Array && b instanceof Float64Array)
    return a.length === b.length && a.every((value, i) => value === b[i]);
  // The name of a codec describes it.
  return "vectorBytes" in a && "vectorBytes" in b && fieldOf(a, "name") === fieldOf(b, "name");
}

function isObject(x: unknown): x is object {
  return typeof x === "object" && x !== null;
}
