#!/usr/bin/env node
/** `nibble`: runs the command that the arguments name, until it ends or is ended from outside. */
import { commands } from "./commands.ts";
import { report } from "./exit.ts";
import { watchInterrupts } from "./interrupt.ts";

// Node ends silently with code 13 if nothing is left to wait for but the command has not finished: a bug of ours.
process.exitCode = 1;
const interrupts = watchInterrupts();
const unfinished = () => {
  if (!interrupts.signal.aborted)
    process.stderr.write("nibble: ended before it was done; please report this\n");
};
process.once("exit", unfinished);
const program = commands(interrupts.signal);
try {
  await program.parseAsync();
  // The reader of our output may have left while nothing was waiting for it.
  process.exitCode = interrupts.signal.aborted ? interrupts.signal.reason : 0;
} catch (error) {
  process.exitCode = report(error, program, interrupts.signal);
}
process.off("exit", unfinished);
