/** The lab's tables, by postgrator over the executor: each migration and the record of it are one unit. */
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Executor, optional, SqlError, type Statement } from "./executor.ts";

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), "migrations");

/** Number of the newest migration. */
export function newestSchema(): number {
  return Math.max(...readdirSync(FOLDER).map((name) => Number.parseInt(name, 10) || 0));
}

const TRIES = 5;

/** Brings the database to the newest schema; several processes may do so at once. */
export async function migrate(executor: Executor): Promise<void> {
  const { default: Postgrator } = await optional("postgrator", () => import("postgrator"));
  for (let tries = 1; ; tries++) {
    let script: Statement[] = [];
    const postgrator = new Postgrator({
      driver: "pg",
      schemaTable: "lab.schemaversion",
      migrationPattern: `${forGlob(FOLDER)}/*.sql`,
      newline: "LF",
      // A script is held back for postgrator's record of it, the next statement: killed between the two, it would run twice.
      execSqlScript: async (text) => {
        script = [{ text }];
      },
      execQuery: async (text) => {
        const statements = [...script, { text }];
        script = [];
        return { rows: (await executor.run(statements)).at(-1) as object[] };
      },
    });
    try {
      await postgrator.migrate();
      return;
    } catch (error) {
      // Another process created the same table first: look again. "already exists" for tables and schemas, and a duplicate row.
      const raced = error instanceof SqlError && ["42P07", "42P06", "42701", "23505"].includes(error.state);
      if (!raced || tries === TRIES) throw error;
    }
  }
}

/** A folder's name, whatever characters it has, as a pattern that matches just that. */
function forGlob(folder: string): string {
  return folder.replaceAll("\\", "/").replace(/[[\]{}()*?!+@]/g, (sign) => `[${sign}]`);
}
