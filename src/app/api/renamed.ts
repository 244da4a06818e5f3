/** A request that is translated into another endpoint's: errors name the fields of the one that was sent. */
import { PlaceError } from "../../answer/errors.ts";
import type { Fields } from "./fields.ts";

/** Names of the translation and those that were sent. */
export type Renames = readonly (readonly [ours: RegExp, theirs: string])[];

/** Does the work; its errors name the fields that were sent. */
export async function renaming<T>(renames: Renames, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof PlaceError)) throw error;
    const of = (text: string) => renames.reduce((all, [ours, theirs]) => all.replace(ours, theirs), text);
    throw new PlaceError(error.code as "argument" | "unsupported", of(error.place), of(error.message));
  }
}

/** Copies these fields where they exist. */
export function taken(fields: Fields, ...names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(names.filter((name) => fields.has(name)).map((name) => [name, fields.any(name)]));
}
