/** Reads values from outside of the page, the browser's storage or a server, field by field: null for a value of another type. */

export function textOf(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

/** A finite number from 0 on. */
export function amountOf(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : null;
}

/** {} for what is no object. */
export function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

/** What `read` makes of each, without those that it cannot read; [] for what is no list. */
export function listOf<Item>(value: unknown, read: (item: unknown) => Item | null): Item[] {
  return Array.isArray(value) ? value.map(read).filter((item) => item !== null) : [];
}
