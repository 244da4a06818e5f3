/**
 * Whose the device is: sessions over one allocation step one at a time, in the order in which they ask. Owns that order.
 * Refuses to know what a turn is for. One idea: who had the device keeps it until another asks, so that a session alone
 * never waits, and may leave work under way that it settles before it hands over.
 */
import { AbortedError } from "../format/errors.ts";

/** One that shares the device. */
export interface Sharer {
  /** Resolves when nothing of it is under way any more. Never rejects. */
  settle(): Promise<void>;
}

interface Waiting {
  readonly who: Sharer;
  readonly give: () => void;
}

export class Turns {
  #holder: Sharer | null = null;
  /** busy: the holder's turn; passing: nobody's, the holder settles. */
  #state: "kept" | "busy" | "passing" = "kept";
  readonly #waiting: Waiting[] = [];
  /** How many want the device again and again: what runs ahead should not begin while there are several. */
  users = 0;

  /** Resolves when it is `who`'s turn; at once when it is already. Rejects with AbortedError, and nothing is held. */
  async take(who: Sharer, signal?: AbortSignal): Promise<void> {
    if (this.#state === "busy" && this.#holder === who) return;
    if (this.#state === "kept" && (this.#holder === who || this.#holder === null)) {
      this.#holder = who;
      this.#state = "busy";
      return;
    }
    if (signal?.aborted) throw new AbortedError("waiting for the device");
    await new Promise<void>((resolve, reject) => {
      const aborted = () => {
        this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
        reject(new AbortedError("waiting for the device"));
      };
      const waiting = {
        who,
        give: () => {
          signal?.removeEventListener("abort", aborted);
          resolve();
        },
      };
      this.#waiting.push(waiting);
      signal?.addEventListener("abort", aborted, { once: true });
      this.#pass();
    });
  }

  /** Ends `who`'s turn, if it is: the next who waits gets the device, or else `who` keeps it. */
  end(who: Sharer): void {
    if (this.#state !== "busy" || this.#holder !== who) return;
    this.#state = "kept";
    this.#pass();
  }

  async #pass(): Promise<void> {
    if (this.#state !== "kept" || this.#waiting.length === 0) return;
    this.#state = "passing";
    await this.#holder?.settle();
    const next = this.#waiting.shift();
    this.#state = next ? "busy" : "kept";
    if (!next) return;
    this.#holder = next.who;
    next.give();
  }
}
