/**
 * Where a generation's next token comes from: a device that samples and runs ahead by itself, or this host, from as few
 * logits as the options need. Both give the same ids for the same seed. Refuses to know text and stop conditions.
 */
import type { Continuation } from "../device/contract.ts";
import type { Sampler } from "./sample.ts";
import type { Session } from "./session.ts";

export class Tokens {
  readonly #session: Session;
  readonly #sample: Sampler;
  readonly #most: number;
  /** undefined: not asked yet; null: the host samples. */
  #ahead: Pick<Continuation, "next"> | null | undefined;

  /** After `session`'s timeline come at most `most` tokens. */
  constructor(session: Session, sample: Sampler, most: number) {
    this.#session = session;
    this.#sample = sample;
    this.#most = most;
  }

  /** The token after the timeline. */
  async next(): Promise<number> {
    const session = this.#session;
    const sample = this.#sample;
    if (this.#ahead === undefined)
      this.#ahead = sample.sampling && session.runAhead(sample.sampling, this.#most);
    if (this.#ahead) {
      const id = await this.#ahead.next();
      if (id !== null) {
        sample.skip();
        return id;
      }
      // These options may keep more words than the device sorts, and such texts tend to do it again.
      this.end();
      await session.process([...session.ids]);
    }
    return sample.next(await this.#logits(), session.ids);
  }

  /** The token that came last becomes part of the timeline. */
  accept(id: number): Promise<void> {
    return this.#session.push(id);
  }

  /** No more are wanted. Does not wait for what a device has under way. */
  end(): void {
    this.#ahead = null;
    this.#session.stopAhead();
  }

  /** [vocab], -Infinity where a logit does not matter: a device may be spared to give them all. */
  async #logits(): Promise<Float32Array> {
    const session = this.#session;
    const enough = this.#sample.enough(session.ids.length);
    const candidates = enough === null ? null : await session.allocation.candidates?.(enough);
    if (!candidates) return session.logits();
    const logits = new Float32Array(session.vocab).fill(Number.NEGATIVE_INFINITY);
    candidates.ids.forEach((id, i) => {
      logits[id] = candidates.logits[i];
    });
    return logits;
  }
}
