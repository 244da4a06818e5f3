/** A spec as people name it: the beginning of its id, its label, or JSON. Pure. */
import { ArgumentError } from "../format/errors.ts";
import { cachedMethod } from "./methods/cached.ts";
import type { Methods } from "./methods/methods.ts";
import type { Snapshot } from "./snapshot.ts";
import { ANCHORS, cells, SPACE, specEntry } from "./space.ts";
import type { SpecEntry } from "./types.ts";

/** ArgumentError when it matches none, or several. */
export function findSpec(known: Snapshot, name: string, methods: Methods): SpecEntry {
  const wanted = name.trim();
  if (wanted.startsWith("{")) {
    let draft: unknown;
    try {
      draft = JSON.parse(wanted);
    } catch (cause) {
      throw new ArgumentError("spec", wanted, `JSON (${(cause as Error).message})`);
    }
    return specEntry(draft as Parameters<typeof specEntry>[0], methods);
  }
  const all = new Map<string, SpecEntry>(
    [...ANCHORS.map((draft) => specEntry(draft, methods)), ...known.specs.values()].map((entry) => [
      entry.id,
      entry,
    ]),
  );
  const one = (found: readonly SpecEntry[]) => {
    if (found.length > 1)
      throw new ArgumentError(
        "spec",
        wanted,
        `one of ${found
          .map(({ id, label }) => `${id.slice(0, 8)} (${label})`)
          .slice(0, 5)
          .join(", ")}`,
      );
    return found[0];
  };
  // A cache format, whether or not it was measured.
  if (cachedMethod(wanted))
    return specEntry({ keys: { method: wanted }, values: { method: wanted } }, methods);
  const entries = [...all.values()];
  const lower = wanted.toLowerCase();
  const byLabel = one(entries.filter(({ label }) => label.toLowerCase() === lower));
  const byId = /^[0-9a-f]{4,64}$/.test(lower)
    ? one(entries.filter(({ id }) => id.startsWith(lower)))
    : undefined;
  const found =
    byLabel ??
    byId ??
    one(
      cells(SPACE, methods).filter(
        ({ label, id }) => label.toLowerCase() === lower || (lower.length >= 8 && id.startsWith(lower)),
      ),
    );
  if (found) return found;
  const near = entries.filter(({ label }) => label.toLowerCase().includes(lower.split(" ")[0])).slice(0, 4);
  const such = (near.length > 0 ? near : entries.slice(0, 4)).map(({ label }) => `"${label}"`).join(", ");
  throw new ArgumentError("spec", wanted, `an id, JSON, or a label such as ${such}`);
}

/** A model by the beginning of its id, or a part of its name. */
export function findModelId(known: Snapshot, name: string): string {
  const found = [...known.models.values()].filter(
    (model) => model.id.startsWith(name) || model.name.includes(name),
  );
  const exact = found.filter((model) => model.name === name);
  if (exact.length === 1) return exact[0].id;
  if (found.length === 1) return found[0].id;
  const names = [...known.models.values()].map((model) => `${model.name} (${model.id.slice(0, 8)})`);
  throw new ArgumentError("model", name, names.join(", ") || "a model that this lab has measured");
}
