/**
 * The one process that has a lab's folder open: PGlite over `db/`, the journal, and a socket to which other processes of this
 * machine send their units. What a unit adds is in the journal, on the disk, before it is answered: PGlite has no fsync.
 * Only processes that can read the folder find socket and token.
 */
import { randomBytes, timingSafeEqual } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { PGlite } from "@electric-sql/pglite";
import { NibbleError } from "../format/errors.ts";
import { makeFolder } from "../format/make-folder.ts";
import { type Executor, optional, type Row, SqlError, type Statement } from "./executor.ts";
import { Journal } from "./journal.ts";
import type { LabLock } from "./lock.ts";
import { newestSchema } from "./migrate.ts";
import type { Entry } from "./types.ts";

export const JOURNAL = "journal.jsonl";
export const DATABASE = "db";

const WASI_ENOSPC = 51;

/** The longest path of a socket that all systems take. */
const SOCKET_BYTES = 100;

/** Brings database and journal to the same entries, before others may join. */
export type Prepare = (executor: Executor, journal: Journal) => Promise<void>;

/** Opens the database of a folder whose lock this process has. */
export async function openOwner(folder: string, lock: LabLock, prepare: Prepare): Promise<Executor> {
  const { PGlite } = await optional("@electric-sql/pglite", () => import("@electric-sql/pglite"));
  const journal = await Journal.open(join(folder, JOURNAL));
  const closers: (() => Promise<unknown>)[] = [() => lock.release(), () => journal.close()];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  try {
    const known = new Set(journal.entries.map(({ id }) => id));
    makeFolder(join(folder, DATABASE));
    const database = await PGlite.create(join(folder, DATABASE)).catch((cause) => {
      const what = `${join(folder, DATABASE)} cannot be opened: ${reasonOf(cause)}`;
      throw new NibbleError("io", `${what}; nibble lab rebuild makes it anew from the journal`, { cause });
    });
    closers.push(() => database.close());
    const executor: Executor = {
      run: async (statements, entries = []) => {
        const rows = await inPGlite(database, statements);
        // Also entries that the database had already: a killed owner may not have written them to the journal.
        await journal.append(entries.filter(({ id }) => !known.has(id)));
        for (const { id } of entries) known.add(id);
        return rows;
      },
      close,
    };
    await prepare(executor, journal);
    const token = randomBytes(24).toString("hex");
    const socket = await socketOf(folder, lock.number);
    const server = await listen(executor, socket, token);
    closers.push(() => stop(server));
    await lock.publish({ socket, token, schema: newestSchema() });
    return executor;
  } catch (error) {
    await close();
    throw error;
  }
}

/** The file system in PGlite's WebAssembly throws objects without a message: WASI's number of the error. */
function reasonOf(cause: unknown): string {
  const { message, errno } = (cause ?? {}) as { message?: string; errno?: number };
  if (errno === WASI_ENOSPC) return "no space left on device";
  return message || (errno === undefined ? String(cause) : `error ${errno} of its file system`);
}

async function inPGlite(database: PGlite, statements: readonly Statement[]): Promise<Row[][]> {
  const rowsOf = async (on: Pick<PGlite, "exec" | "query">, { text, values }: Statement): Promise<Row[]> => {
    // Several statements in one text give several results.
    if (values === undefined) return ((await on.exec(text)).at(-1)?.rows as Row[]) ?? [];
    return (await on.query<Row>(text, [...values])).rows;
  };
  try {
    if (statements.length === 1) return [await rowsOf(database, statements[0])];
    return await database.transaction(async (transaction) => {
      const rows: Row[][] = [];
      for (const statement of statements) rows.push(await rowsOf(transaction, statement));
      return rows;
    });
  } catch (cause) {
    const { code, message } = cause as { code?: unknown; message: string };
    if (typeof code !== "string") throw cause;
    throw new SqlError(code, message, { cause });
  }
}

/** In the folder, or, where that path is too long for a socket, in one of its own. Windows has pipes instead. */
async function socketOf(folder: string, number: number): Promise<string> {
  const name = randomBytes(6).toString("hex");
  if (process.platform === "win32") return `\\\\.\\pipe\\nibble-lab-${name}`;
  const inside = resolve(folder, "owner", `${number}.sock`);
  if (Buffer.byteLength(inside) <= SOCKET_BYTES) return inside;
  const outside = join(tmpdir(), `nibble-lab-${name}`);
  await mkdir(outside, { mode: 0o700 });
  return join(outside, "sock");
}

async function listen(executor: Executor, socket: string, token: string): Promise<Server> {
  await rm(socket, { force: true });
  const server = createServer((request, response) => void answer(executor, token, request, response));
  // Units have no time limit, and clients keep their connections.
  server.keepAliveTimeout = 0;
  server.requestTimeout = 0;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(socket, resolve);
  });
  return server;
}

async function stop(server: Server): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeAllConnections();
  await closed;
}

async function answer(
  executor: Executor,
  token: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const reply = (status: number, body: unknown) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(body));
  };
  try {
    const given = Buffer.from(request.headers.authorization ?? "");
    const wanted = Buffer.from(`Bearer ${token}`);
    if (given.length !== wanted.length || !timingSafeEqual(given, wanted))
      return reply(401, { error: "no token" });
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const { statements, entries } = JSON.parse(Buffer.concat(chunks).toString()) as {
      statements: Statement[];
      entries: Entry[];
    };
    reply(200, { rows: await executor.run(statements, entries) });
  } catch (error) {
    const { message } = error as Error;
    reply(error instanceof SqlError ? 422 : 500, {
      error: message.replace(/^database: /, ""),
      state: (error as SqlError).state,
    });
  }
}
