/** A call as a model writes it, and what of a tool its readers need. */

/** A call as a model writes it. */
export interface WrittenCall {
  readonly name: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** A tool as far as reading its calls needs it. */
export interface CalledTool {
  readonly name: string;
  /** Its arguments' schema. */
  readonly parameters: Readonly<Record<string, unknown>>;
}
