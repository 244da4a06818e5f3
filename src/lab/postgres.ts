/** The executor over a Postgres server: a pool of connections of node-postgres, a transaction a call. */
import type { PoolClient } from "pg";
import { NibbleError } from "../format/errors.ts";
import { AwayError, type Executor, optional, type Row, SqlError, type Statement } from "./executor.ts";

export interface PostgresOptions {
  /** Most connections of this process. Default: 4. */
  readonly connections?: number;
  /** After this long without an answer the server is away. Default: 2 minutes. */
  readonly silentMs?: number;
}

/** Time for calls under way when the executor is closed. */
const CLOSING_MS = 1000;

/** Does not connect yet. `url`: postgres://user@host/database. */
export async function openPostgres(url: string, options: PostgresOptions = {}): Promise<Executor> {
  const { default: pg } = await optional("pg", () => import("pg"));
  const pool = new pg.Pool({
    connectionString: url,
    max: options.connections ?? 4,
    connectionTimeoutMillis: 10_000,
    // A server that froze, or whose network is gone, closes no connection.
    query_timeout: options.silentMs ?? 120_000,
    keepAlive: true,
    application_name: "nibble lab",
  });
  // A broken connection rejects the pending query; without a listener its event would end the process.
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  const busy = new Set<PoolClient>();
  const giveBack = (client: PoolClient, isBroken: boolean) => {
    if (busy.delete(client)) client.release(isBroken);
  };
  return {
    async run(statements) {
      let client: PoolClient;
      try {
        client = await pool.connect();
      } catch (error) {
        throw ofPostgres(error);
      }
      busy.add(client);
      try {
        const rows = await inTransaction(client, statements);
        giveBack(client, false);
        return rows;
      } catch (cause) {
        const error = ofPostgres(cause);
        giveBack(client, error instanceof AwayError);
        throw error;
      }
    },
    async close() {
      const timer = setTimeout(() => {
        for (const client of busy) giveBack(client, true);
      }, CLOSING_MS);
      await pool.end();
      clearTimeout(timer);
    },
  };
}

async function inTransaction(client: PoolClient, statements: readonly Statement[]): Promise<Row[][]> {
  if (statements.length === 1) return [await rowsOf(client, statements[0])];
  const rows: Row[][] = [];
  try {
    await client.query("begin");
    for (const statement of statements) rows.push(await rowsOf(client, statement));
    await client.query("commit");
    return rows;
  } catch (error) {
    // Nobody is there to roll back, and the connection is not used again.
    if (!(ofPostgres(error) instanceof AwayError)) await client.query("rollback").catch(() => {});
    throw error;
  }
}

async function rowsOf(client: PoolClient, { text, values }: Statement): Promise<Row[]> {
  const result = await client.query(text, values as unknown[] | undefined);
  // Several statements in one text give several results.
  return (Array.isArray(result) ? result.at(-1) : result)?.rows ?? [];
}

/** Shutting down, crashed, starting, no free connection; and all of class 08, connections. */
const AWAY = ["57P01", "57P02", "57P03", "53300"];
const NETWORK = [
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EAI_AGAIN",
  "ENOENT",
];

function ofPostgres(error: unknown): unknown {
  const { code, severity, message } = error as { code?: string; severity?: string; message: string };
  if (severity !== undefined && code !== undefined) {
    const away = AWAY.includes(code) || code.startsWith("08");
    return away ? new AwayError(message, { cause: error }) : new SqlError(code, message, { cause: error });
  }
  // The driver's own words for a connection that broke or was not made in time have no code.
  const away = code === undefined ? /connection|timeout/i.test(message) : NETWORK.includes(code);
  if (away) return new AwayError(message || String(code), { cause: error });
  return new NibbleError("io", `database: ${message || String(code)}`, { cause: error });
}
