/**
 * Runs the built command line as a person's shell would: a child process with pipes. `npm test` builds dist/ first;
 * whoever calls vitest alone is told when it is older than the sources.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));
const src = join(root, "src");
const cli = join(root, "dist/cli/nibble.js");

export interface Ended {
  /** null when a signal ended it. */
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface Running {
  child: ChildProcess;
  /** The first bytes of the answer have come. */
  speaking: Promise<void>;
  ended: Promise<Ended>;
}

/** Throws when dist/ is missing or older than a source file. */
export function requireFreshBuild(): void {
  const advice = "run: node scripts/build.js --ts (npm test does)";
  if (!existsSync(cli)) throw new Error(`dist/ is missing; ${advice}`);
  const built = statSync(cli).mtimeMs;
  for (const name of readdirSync(src, { recursive: true, encoding: "utf8" }))
    if (name.endsWith(".ts") && !name.includes("assembly") && statSync(join(src, name)).mtimeMs > built)
      throw new Error(`dist/ is older than src/${name}; ${advice}`);
}

/** Starts `nibble` with these arguments; `input` is its whole stdin, null leaves stdin open. */
export function start(
  args: readonly string[],
  input: string | null = "",
  env: NodeJS.ProcessEnv = {},
): Running {
  return startNode([cli, ...args], input, env);
}

/** `env` is added to this process's; undefined takes away. */
export function startNode(
  args: readonly string[],
  input: string | null = "",
  env: NodeJS.ProcessEnv = {},
): Running {
  const child = spawn(process.execPath, args, { cwd: root, env: { ...process.env, ...env } });
  let stdout = "";
  let stderr = "";
  // A child that does not read its input closes the pipe; that is its right.
  child.stdin.on("error", () => {});
  if (input !== null) child.stdin.end(input);
  child.stderr.on("data", (data) => {
    stderr += data;
  });
  const speaking = new Promise<void>((resolve) => {
    child.stdout.on("data", (data) => {
      stdout += data;
      resolve();
    });
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
  return { child, speaking, ended };
}

export function nibble(args: readonly string[], input?: string, env?: NodeJS.ProcessEnv): Promise<Ended> {
  return start(args, input, env).ended;
}

/** `nibble serve needle` on a free port, once it listens. */
export async function serveNeedle(args: readonly string[] = []): Promise<Running & { url: string }> {
  const running = start(["serve", "needle", "--port", "0", "--context", "1024", ...args], null);
  const line = await new Promise<string>((resolve, reject) => {
    let out = "";
    running.child.stdout?.on("data", (data) => {
      out += data;
      if (out.includes("\n")) resolve(out);
    });
    running.ended.then(({ stderr }) => reject(new Error(stderr)));
  });
  return { ...running, url: /http:\/\/[^ ]+/.exec(line)?.[0] ?? "" };
}
