/**
 * Conversations in the browser's own database. Tabs do not overwrite each other: each turn is a record of its own under
 * an id that only its tab makes, and a conversation's head is read and changed in one transaction.
 */
import { amountOf, fieldsOf, textOf } from "../checked.ts";
import type { Turn } from "./conversation.ts";
import { isAnswered } from "./conversation.ts";
import { readTurn } from "./saved.ts";

export interface Head {
  readonly id: string;
  readonly title: string;
  /** The title was given by the user; otherwise it is the first question. */
  readonly isNamed: boolean;
  readonly createdAt: number;
  readonly changedAt: number;
  /** The last turn of the branch that was shown last. */
  readonly leaf: string | null;
  /** Instructions before it. */
  readonly system: string;
}

export interface Conversation {
  readonly head: Head;
  readonly turns: readonly Turn[];
}

type Stored = Turn & { readonly conversation: string };

export class Book {
  private constructor(readonly database: IDBDatabase) {}

  /** Rejects where the browser keeps nothing. */
  static async open(): Promise<Book> {
    const request = indexedDB.open("nibble", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("heads", { keyPath: "id" });
      const turns = request.result.createObjectStore("turns", { keyPath: ["conversation", "id"] });
      turns.createIndex("conversation", "conversation");
    };
    const database = await result(request);
    // A tab with a newer page may change the schema.
    database.onversionchange = () => database.close();
    return new Book(database);
  }

  /** Most recently changed first. */
  async heads(): Promise<Head[]> {
    const heads = await result(this.#store("heads", "readonly").getAll());
    return heads.flatMap((head) => readHead(head) ?? []).sort((a, b) => b.changedAt - a.changedAt);
  }

  async read(id: string): Promise<Conversation | null> {
    const { heads, turns, ended } = this.#both("readonly");
    const [head, found] = await Promise.all([
      result(heads.get(id)),
      result(turns.index("conversation").getAll(id)),
    ]);
    await ended;
    const read = readHead(head);
    return read && { head: read, turns: found.flatMap((turn) => readTurn(turn) ?? []) };
  }

  /**
   * Writes one turn, and the head, except a title that another tab has given. `isNew`: the conversation begins; returns
   * false when it is not new and no longer exists. `dropped`: a turn without an answer that makes way.
   */
  async write(head: Head, turn: Turn, isNew: boolean, dropped: string | null): Promise<boolean> {
    const { heads, turns, ended } = this.#both("readwrite");
    const there = readHead(await result(heads.get(head.id)));
    if (there || isNew) {
      heads.put(there ? { ...head, title: there.title, isNamed: there.isNamed } : head);
      turns.put({ ...turn, conversation: head.id } satisfies Stored);
      if (dropped !== null) {
        const old = readTurn(await result(turns.get([head.id, dropped])));
        if (old && !isAnswered(old)) turns.delete([head.id, dropped]);
      }
    }
    await ended;
    return there !== null || isNew;
  }

  /** Changes the head of a conversation; does nothing if the conversation no longer exists. */
  async change(id: string, change: Partial<Head>): Promise<void> {
    const { heads, ended } = this.#both("readwrite");
    const there = readHead(await result(heads.get(id)));
    if (there) heads.put({ ...there, ...change, id });
    await ended;
  }

  async remove(id: string): Promise<void> {
    const { heads, turns, ended } = this.#both("readwrite");
    heads.delete(id);
    for (const key of await result(turns.index("conversation").getAllKeys(id))) turns.delete(key);
    await ended;
  }

  async put({ head, turns: all }: Conversation): Promise<void> {
    const { heads, turns, ended } = this.#both("readwrite");
    heads.put(head);
    for (const turn of all) turns.put({ ...turn, conversation: head.id } satisfies Stored);
    await ended;
  }

  /** Conversations in whose turns the text is, whatever its case. */
  async find(text: string): Promise<Set<string>> {
    const wanted = text.toLowerCase();
    const found = new Set<string>();
    const store = this.#store("turns", "readonly");
    // Uses a cursor: a hundred conversations about long documents do not fit in memory at once.
    for (let at = await result(store.openCursor()); at; at = await next(at)) {
      const { conversation, question, answer } = at.value as Stored;
      if (`${question}\n${answer}`.toLowerCase().includes(wanted)) found.add(conversation);
    }
    return found;
  }

  #store(name: "heads" | "turns", mode: IDBTransactionMode): IDBObjectStore {
    return this.database.transaction(name, mode).objectStore(name);
  }

  #both(mode: IDBTransactionMode) {
    const transaction = this.database.transaction(["heads", "turns"], mode);
    const ended = new Promise<void>((done, fail) => {
      transaction.oncomplete = () => done();
      transaction.onabort = () => fail(transaction.error);
    });
    // The error of a request is reported before; this rejection must not count as unhandled.
    ended.catch(() => {});
    return { heads: transaction.objectStore("heads"), turns: transaction.objectStore("turns"), ended };
  }
}

export function readHead(value: unknown): Head | null {
  const { id, title, isNamed, createdAt, changedAt, leaf, system } = fieldsOf(value);
  const name = textOf(id);
  if (name === null) return null;
  return {
    id: name,
    title: textOf(title) ?? "",
    isNamed: isNamed === true,
    createdAt: amountOf(createdAt) ?? 0,
    changedAt: amountOf(changedAt) ?? 0,
    leaf: textOf(leaf),
    system: textOf(system) ?? "",
  };
}

function result<Value>(request: IDBRequest<Value>): Promise<Value> {
  return new Promise((done, fail) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => fail(request.error);
  });
}

function next(cursor: IDBCursorWithValue): Promise<IDBCursorWithValue | null> {
  const moved = result(cursor.request as IDBRequest<IDBCursorWithValue | null>);
  cursor.continue();
  return moved;
}
