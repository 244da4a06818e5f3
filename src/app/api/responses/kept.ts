/**
 * Conversations of responses, in memory, for previous_response_id. Their number and total size are bounded;
 * the oldest go first.
 */
import { ApiError } from "../errors.ts";

const MOST_KEPT = 1000;
/** Most characters of all conversations as JSON. */
const MOST_CHARACTERS = 32 * 2 ** 20;

interface Kept {
  readonly messages: readonly unknown[];
  readonly characters: number;
}

export class KeptResponses {
  readonly #byId = new Map<string, Kept>();
  #characters = 0;

  /** The messages up to the end of this response. ApiError 400 for one that is not known, or no longer. */
  get(id: string): readonly unknown[] {
    const found = this.#byId.get(id);
    if (found) return found.messages;
    throw new ApiError(
      400,
      `previous_response_id ${JSON.stringify(id.slice(0, 100))} is not known here: responses are kept in memory, the last ${MOST_KEPT} as far as they fit, until the server ends; send the whole conversation as input`,
      { param: "previous_response_id", code: "previous_response_not_found" },
    );
  }

  keep(id: string, messages: readonly unknown[]): void {
    const characters = JSON.stringify(messages).length;
    if (characters > MOST_CHARACTERS) return;
    this.#byId.set(id, { messages, characters });
    this.#characters += characters;
    for (const [oldest, kept] of this.#byId) {
      if (this.#byId.size <= MOST_KEPT && this.#characters <= MOST_CHARACTERS) break;
      this.#byId.delete(oldest);
      this.#characters -= kept.characters;
    }
  }
}
