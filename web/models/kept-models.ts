/**
 * Models kept in the origin's own file system, a folder for each under its name, so that they need not be chosen from
 * the disk again. A model is there completely or not at all: a mark is written last, and folders without it are not
 * listed.
 */
import { Store } from "../store.ts";

interface KeptModelsState {
  readonly models: readonly { readonly name: string; readonly bytes: number }[];
  readonly copying: { readonly name: string; readonly bytes: number; readonly totalBytes: number } | null;
}

const FOLDER = "models";
const MARK = ".whole";

class KeptModels extends Store<KeptModelsState> {
  /** Browsers have it on https and localhost. */
  readonly isPossible = typeof navigator.storage?.getDirectory === "function";
  /** Lists that were begun. */
  #lists = 0;

  constructor() {
    super({ models: [], copying: null });
    if (this.isPossible) this.#list().catch(() => {});
  }

  /** Copies them; gives the copies. Rejects when the browser has no room for them. */
  async keep(name: string, files: readonly File[]): Promise<File[]> {
    const totalBytes = files.reduce((sum, { size }) => sum + size, 0);
    // Otherwise the browser may delete it when its disk is full. Firefox asks the user, who may not answer.
    navigator.storage.persist().catch(() => {});
    let bytes = 0;
    this.set({ copying: { name, bytes, totalBytes } });
    try {
      await this.#removed(name);
      const folder = await (await modelsFolder()).getDirectoryHandle(name, { create: true });
      for (const file of files) {
        const counted = new TransformStream<Uint8Array, Uint8Array>({
          transform: (chunk, controller) => {
            bytes += chunk.length;
            this.set({ copying: { name, bytes, totalBytes } });
            controller.enqueue(chunk);
          },
        });
        const target = await folder.getFileHandle(file.name, { create: true });
        await file
          .stream()
          .pipeThrough(counted)
          .pipeTo(await target.createWritable());
      }
      await folder.getFileHandle(MARK, { create: true });
    } catch (error) {
      await this.#removed(name);
      throw error;
    } finally {
      this.set({ copying: null });
      await this.#list();
    }
    return this.files(name);
  }

  async files(name: string): Promise<File[]> {
    return (await filesOf(await (await modelsFolder()).getDirectoryHandle(name))) ?? [];
  }

  async remove(name: string): Promise<void> {
    await this.#removed(name);
    await this.#list();
  }

  async #removed(name: string): Promise<void> {
    await (await modelsFolder()).removeEntry(name, { recursive: true }).catch(() => {});
  }

  async #list(): Promise<void> {
    const list = ++this.#lists;
    const models: KeptModelsState["models"][number][] = [];
    for await (const [name, entry] of (await modelsFolder()).entries()) {
      const files = await filesOf(entry as FileSystemDirectoryHandle);
      if (files) models.push({ name, bytes: files.reduce((sum, { size }) => sum + size, 0) });
    }
    // A later listing is more recent.
    if (list === this.#lists) this.set({ models });
  }
}

async function modelsFolder(): Promise<FileSystemDirectoryHandle> {
  return (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });
}

/** null: not whole; another tab may be writing it. */
async function filesOf(folder: FileSystemDirectoryHandle): Promise<File[] | null> {
  const files: File[] = [];
  let isWhole = false;
  for await (const [name, entry] of folder.entries()) {
    if (name === MARK) isWhole = true;
    else files.push(await (entry as FileSystemFileHandle).getFile());
  }
  return isWhole ? files : null;
}

export const keptModels = new KeptModels();
