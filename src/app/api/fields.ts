/**
 * Reads one JSON object of a request, field by field, and checks it against the table of fields that are known there:
 * `hold` handles those that no reader takes.
 */
import { badValue } from "../../answer/errors.ts";
import { ObjectFields, shown } from "../../answer/object-fields.ts";
import { ArgumentError } from "../../index.ts";
import { type FieldTable, holdToTable, type UnknownField } from "./field-rules.ts";

export class Fields extends ObjectFields {
  readonly #unknown: UnknownField;

  /**
   * unknown: called for fields that `hold` has no rule for, here and in nested objects. Throws PlaceError unless `value` is an
   * object.
   */
  constructor(value: unknown, place = "", unknown: UnknownField = () => {}) {
    super(value, place);
    this.#unknown = unknown;
  }

  /** Refuses what the table refuses, and reports what it does not know. */
  hold(table: FieldTable): this {
    holdToTable(this.record, table, { place: (name) => this.place(name), unknown: this.#unknown });
    return this;
  }

  /** A field that is present and has no effect. */
  tellUnknown(name: string): void {
    this.#unknown(this.place(name));
  }

  override object(name: string): Fields | undefined {
    return super.object(name) as Fields | undefined;
  }

  override objects(name: string): Fields[] | undefined {
    return super.objects(name) as Fields[] | undefined;
  }

  protected override inside(value: unknown, place: string): Fields {
    return new Fields(value, place, this.#unknown);
  }
}

/** Runs a check of library options; its ArgumentError is changed to name the request's field. */
export function checked<T>(names: Readonly<Record<string, string>>, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof ArgumentError)) throw error;
    throw badValue(names[error.argument] ?? error.argument, shown(error.found), error.allowed);
  }
}
