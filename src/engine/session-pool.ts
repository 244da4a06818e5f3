/**
 * Which session a generation gets: the one that goes on with what it holds, or else the one that nobody has used for
 * longest; what another holds of the prompt's beginning is copied by `Session.process`. Owns the queue of those who wait
 * for one. Refuses to know text.
 */
import { AbortedError, ArgumentError } from "../format/errors.ts";
import { type Session, WORTH_COPYING } from "./session.ts";

interface Place {
  readonly session: Session;
  isBusy: boolean;
  /** When it was given back last, as a count; 0: never. */
  usedAt: number;
}

interface Waiting {
  readonly ids: readonly number[];
  readonly give: (session: Session) => void;
  readonly refuse: (error: Error) => void;
}

export class SessionPool {
  readonly #places: readonly Place[];
  readonly #waiting: Waiting[] = [];
  #uses = 0;
  #closed: Error | null = null;

  constructor(sessions: readonly Session[]) {
    this.#places = sessions.map((session) => ({ session, isBusy: false, usedAt: 0 }));
  }

  /** Sessions that someone has, and how many wait for one. */
  get activity(): { running: number; waiting: number } {
    return { running: this.#places.filter(({ isBusy }) => isBusy).length, waiting: this.#waiting.length };
  }

  /** A session for a timeline that begins with `ids`, until `giveBack`. In the order of asking. */
  async take(ids: readonly number[], signal?: AbortSignal): Promise<Session> {
    if (this.#closed) throw this.#closed;
    if (signal?.aborted) throw new AbortedError("waiting for a session");
    const session = this.#best(ids);
    if (session) return session;
    return new Promise((resolve, reject) => {
      const leave = () => {
        signal?.removeEventListener("abort", aborted);
        const at = this.#waiting.indexOf(waiting);
        if (at >= 0) this.#waiting.splice(at, 1);
      };
      const refuse = (error: Error) => {
        leave();
        reject(error);
      };
      const aborted = () => refuse(new AbortedError("waiting for a session"));
      const give = (session: Session) => {
        leave();
        resolve(session);
      };
      const waiting = { ids, give, refuse };
      this.#waiting.push(waiting);
      signal?.addEventListener("abort", aborted, { once: true });
    });
  }

  /** The session that holds most of `ids`. ArgumentError when none holds any, or someone has it. */
  takeHolder(ids: readonly number[]): Session {
    if (this.#closed) throw this.#closed;
    const held = this.#places.map(({ session }) => session.reusable(ids));
    const most = Math.max(...held);
    if (most < 1) throw new ArgumentError("the text", "not held by any session", "one that was read before");
    const place = this.#places[held.indexOf(most)];
    if (place.isBusy) throw new ArgumentError("the session", "generating", "one whose generation has ended");
    return this.#give(place);
  }

  giveBack(session: Session): void {
    const place = this.#places[session.timeline];
    place.isBusy = false;
    place.usedAt = ++this.#uses;
    session.share.turns.users--;
    const [next] = this.#waiting;
    const given = next && this.#best(next.ids);
    if (given) next.give(given);
  }

  /** Refuses all who wait, and all who come. */
  close(error: Error): void {
    this.#closed ??= error;
    for (const { refuse } of [...this.#waiting]) refuse(error);
  }

  #best(ids: readonly number[]): Session | null {
    const held = this.#places.map(({ session }) => session.reusable(ids));
    const longest = Math.max(...held);
    const idle = this.#places.flatMap((place, i) => {
      if (place.isBusy) return [];
      const all = place.session.ids.length;
      // Most of it is kept, or the prompt is answered anew, and copying from another would not bring more.
      const isPrompt = held[i] === ids.length - 1;
      const isKept = (isPrompt || 2 * held[i] >= all) && longest - held[i] < WORTH_COPYING;
      const isLittleLost = all - held[i] < WORTH_COPYING;
      const rank = isKept && isLittleLost ? GOES_ON : all === 0 ? EMPTY : isKept ? TURNS_BACK : OTHER;
      return [{ place, rank, held: rank === OTHER ? 0 : held[i] }];
    });
    idle.sort((a, b) => a.rank - b.rank || b.held - a.held || a.place.usedAt - b.place.usedAt);
    return idle.length > 0 ? this.#give(idle[0].place) : null;
  }

  #give(place: Place): Session {
    place.isBusy = true;
    place.session.share.turns.users++;
    return place.session;
  }
}

/** In this order: a text that goes on; one that was never used; one that is taken up earlier; any. */
const [GOES_ON, EMPTY, TURNS_BACK, OTHER] = [0, 1, 2, 3];
