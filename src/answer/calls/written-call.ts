/** A call as a model writes it, and what its readers need to know of a tool. */

/** A call as a model writes it. */
export interface WrittenCall {
  readonly name: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** What reading its calls needs of a tool. */
export interface CalledTool {
  readonly name: string;
  /** Its arguments' schema. */
  readonly parameters: Readonly<Record<string, unknown>>;
}
