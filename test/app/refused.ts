/**
 * The command line in this process, for arguments that it refuses: parsing, messages and exit codes are what the process has
 * (nibble.ts), whose start takes a quarter of a second of a core.
 */
import { vi } from "vitest";
import { commands } from "../../src/app/commands.ts";
import { report } from "../../src/app/exit.ts";
import type { Ended } from "./nibble.ts";

export async function refused(args: readonly string[]): Promise<Ended> {
  const outputs = { stdout: "", stderr: "" };
  const spies = (["stdout", "stderr"] as const).map((name) =>
    vi.spyOn(process[name], "write").mockImplementation((text) => {
      outputs[name] += text;
      return true;
    }),
  );
  const { signal } = new AbortController();
  const program = commands(signal);
  try {
    await program.parseAsync(args, { from: "user" });
    return { code: 0, ...outputs };
  } catch (error) {
    return { code: report(error, program, signal), ...outputs };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}
