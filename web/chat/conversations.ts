/**
 * The list of conversations that are kept, and what people do with it: search, rename, delete, export, import. It also notifies
 * other tabs, and works where the browser keeps nothing.
 */
import { Store } from "../store.ts";
import { Book, type Conversation, type Head } from "./book.ts";

export interface ConversationsState {
  /** Most recently changed first; null: not read yet. */
  readonly heads: readonly Head[] | null;
  readonly query: string;
  /** The ids of those that contain the query; null: no query. */
  readonly found: ReadonlySet<string> | null;
  /** What went wrong, or was done. `undo` takes it back. */
  readonly notice: { readonly text: string; readonly undo?: () => void } | null;
}

export class Conversations extends Store<ConversationsState> {
  /** null: the browser keeps nothing. */
  readonly book: Promise<Book | null> = Book.open().catch(() => null);
  readonly #channel = new BroadcastChannel("nibble");
  readonly #changed = new Set<(id: string) => void>();

  constructor() {
    super({ heads: null, query: "", found: null, notice: null });
    this.#channel.onmessage = ({ data }) => {
      this.refresh();
      for (const listener of this.#changed) listener(String(data));
    };
    this.refresh();
  }

  /** Another tab, or this list, has changed that conversation. */
  onChanged(listener: (id: string) => void): void {
    this.#changed.add(listener);
  }

  async refresh(): Promise<void> {
    this.set({ heads: (await (await this.book)?.heads().catch(() => null)) ?? [] });
  }

  /** Must be called after each change of the book. */
  async announce(id: string): Promise<void> {
    this.#channel.postMessage(id);
    await this.refresh();
  }

  async find(query: string): Promise<void> {
    const text = query.trim();
    this.set({ query, ...(text === "" ? { found: null } : {}) });
    if (text === "") return;
    const inTurns = (await (await this.book)?.find(text)) ?? new Set<string>();
    if (this.state.query !== query) return;
    const titled = (this.state.heads ?? []).filter(({ title }) =>
      title.toLowerCase().includes(text.toLowerCase()),
    );
    this.set({ found: new Set([...inTurns, ...titled.map(({ id }) => id)]) });
  }

  async rename(id: string, title: string): Promise<void> {
    if (title.trim() === "") return;
    await (await this.book)?.change(id, { title: title.trim(), isNamed: true });
    await this.announce(id);
  }

  async remove(id: string): Promise<void> {
    const book = await this.book;
    const kept = await book?.read(id);
    if (!book || !kept) return;
    await book.remove(id);
    const undo = async () => {
      await book.put(kept);
      this.set({ notice: null });
      this.#announceToAll(id);
    };
    this.set({ notice: { text: `"${kept.head.title}" was deleted.`, undo } });
    this.#announceToAll(id);
  }

  /** All, or one, as a file's text. */
  async exported(kind: "json" | "md", id?: string): Promise<string> {
    const { toFile } = await import("./transfer.ts");
    const book = await this.book;
    const ids = id === undefined ? (this.state.heads ?? []).map((head) => head.id) : [id];
    const all: Conversation[] = [];
    for (const one of ids) {
      const found = await book?.read(one);
      if (found) all.push(found);
    }
    return toFile(all, kind);
  }

  async import(files: readonly File[]): Promise<void> {
    const { fromFile } = await import("./transfer.ts");
    const book = await this.book;
    let count = 0;
    try {
      for (const file of files)
        for (const conversation of fromFile(file.name, await file.text())) {
          await book?.put(conversation);
          count++;
        }
      this.set({ notice: { text: `${count} conversation${count === 1 ? " was" : "s were"} imported.` } });
    } catch (error) {
      this.set({ notice: { text: (error as Error).message } });
    }
    await this.announce("");
  }

  #announceToAll(id: string): void {
    this.announce(id);
    for (const listener of this.#changed) listener(id);
  }
}
