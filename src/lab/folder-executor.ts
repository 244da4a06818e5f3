/**
 * The executor over a lab's folder: this process owns the folder, or talks to the owner and takes its place when the
 * owner is gone.
 */
import { openClient } from "./client.ts";
import { AwayError, type Executor, type Row, type Statement } from "./executor.ts";
import { type Holder, LockedError, lookAtLock, takeLabLock } from "./lock.ts";
import { newestSchema } from "./migrate.ts";
import { openOwner, type Prepare } from "./owner.ts";
import type { Entry } from "./types.ts";

export class FolderExecutor implements Executor {
  readonly #folder: string;
  readonly #prepare: Prepare;
  #owner: Executor | null = null;
  #client: { executor: Executor; socket: string } | null = null;
  #choosing: Promise<Executor> | null = null;

  constructor(folder: string, prepare: Prepare) {
    this.#folder = folder;
    this.#prepare = prepare;
  }

  async run(statements: readonly Statement[], entries?: readonly Entry[]): Promise<Row[][]> {
    const executor = this.#owner ?? this.#client?.executor ?? (await this.#choose());
    try {
      return await executor.run(statements, entries);
    } catch (error) {
      // Look up the folder's owner again before the next try.
      if (error instanceof AwayError && this.#client?.executor === executor) await this.#leave();
      throw error;
    }
  }

  #choose(): Promise<Executor> {
    this.#choosing ??= this.#open().finally(() => {
      this.#choosing = null;
    });
    return this.#choosing;
  }

  async #open(): Promise<Executor> {
    let holder = await lookAtLock(this.#folder);
    if (holder === null) {
      try {
        const lock = await takeLabLock(this.#folder, "database");
        this.#owner = await openOwner(this.#folder, lock, this.#prepare);
        return this.#owner;
      } catch (error) {
        if (!(error instanceof LockedError)) throw error;
        holder = error.holder;
      }
    }
    return this.#join(holder);
  }

  #join(holder: Holder): Executor {
    const { socket, token, schema } = holder;
    const isHere = new LockedError(this.#folder, holder);
    if (holder.mode === "journal") throw isHere;
    if (socket === undefined || token === undefined) throw new AwayError("its owner is opening it");
    // It has another version of the statements, or the socket is on another machine.
    if (schema !== newestSchema() || !isHere.isThisMachine) throw isHere;
    const executor = openClient(socket, token);
    this.#client = { executor, socket };
    return executor;
  }

  async #leave(): Promise<void> {
    const client = this.#client;
    this.#client = null;
    await client?.executor.close();
  }

  async close(): Promise<void> {
    await this.#leave();
    await this.#owner?.close();
    this.#owner = null;
  }
}
