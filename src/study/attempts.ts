/** Reports of several parts, any of which may fail: an error becomes a line of the report. */
import { NibbleError } from "../format/errors.ts";

export interface Attempts {
  /** One message for each part that failed. */
  readonly problems: readonly string[];
  /** null: the part failed. Errors that are not ours are thrown on. */
  attempt<Part>(part: () => Promise<Part>): Promise<Part | null>;
}

export function attempts(): Attempts {
  const problems: string[] = [];
  return {
    problems,
    async attempt(part) {
      try {
        return await part();
      } catch (error) {
        if (!(error instanceof NibbleError)) throw error;
        problems.push(error.message);
        return null;
      }
    },
  };
}
