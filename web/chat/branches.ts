/**
 * A conversation as a tree: each turn names the turn before it. An edited question and an answer given again are siblings of
 * what was there, so nothing is lost, and two tabs that go on with one conversation make two branches. Pure.
 */
import type { Turn, Turns } from "./conversation.ts";

export type Tree = ReadonlyMap<string, Turn>;

/** From the first turn to the one of that id; [] for null and for an id that is not there. */
export function pathTo(tree: Tree, leaf: string | null): Turns {
  const path: Turn[] = [];
  const seen = new Set<string>();
  // A file by another hand may go in circles.
  for (let at = leaf; at !== null && !seen.has(at); ) {
    seen.add(at);
    const turn = tree.get(at);
    if (!turn) break;
    path.unshift(turn);
    at = turn.parent;
  }
  return path;
}

/** Turns after the same turn, itself among them, oldest first. */
export function siblings(tree: Tree, { parent }: Pick<Turn, "parent">): Turn[] {
  return [...tree.values()].filter((turn) => turn.parent === parent).sort(byAge);
}

/** Where the newest continuation of that turn ends; null gives the newest of all. */
export function newestLeaf(tree: Tree, id: string | null): string | null {
  const seen = new Set<string>();
  let leaf = id;
  for (;;) {
    const next = siblings(tree, { parent: leaf }).at(-1);
    if (!next || seen.has(next.id)) return leaf;
    seen.add(next.id);
    leaf = next.id;
  }
}

function byAge(a: Turn, b: Turn): number {
  return a.at - b.at || (a.id < b.id ? -1 : 1);
}
