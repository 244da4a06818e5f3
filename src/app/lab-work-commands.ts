/** The verbs of `nibble lab` for many workers, and their options; each one's file is loaded when it is called. */
import { type Command, Option } from "commander";
import { duration, names, positive, workers } from "./arguments.ts";

/** `verb`: adds what all verbs have. */
export function workCommands(lab: Command, verb: (command: Command) => Command, signal: AbortSignal): void {
  verb(
    lab
      .command("work")
      .description("Takes part in a lab: from another terminal, or with --db from another machine.")
      .option("--models <names>", "what it can measure, separated by commas (default: the lab's)", names)
      .option("--workers <count>", "experiments at a time, each in a process of its own", workers, 1)
      .option("--can <names>", "what else this machine offers, such as gpu", names, [])
      .addOption(
        new Option("--device <name>", "what computes").choices(["cpu", "gpu", "reference"]).default("cpu"),
      )
      .option("--threads <count>", "CPU threads of each (default: the physical cores)", positive)
      .option("--for <time>", "so long, such as 90s, 2m, 1h (default: until it is stopped)", duration)
      .option("--experiments <count>", "stop after this many", positive)
      .option("--offline", "take hf: models from the disk, never from the net"),
  ).action(async (options) => (await import("./lab-work.ts")).workInLab(options, signal));

  verb(
    lab.command("dead").description("Experiments that failed three times, each with its last error."),
  ).action(async (options) => (await import("./lab-mend.ts")).showDead(options, signal));

  verb(
    lab
      .command("retry")
      .description("Gives experiments that failed another three tries.")
      .argument("[ids...]", "their ids, or the beginnings of them")
      .option("--all", "all that are dead"),
  ).action(async (ids, options) => (await import("./lab-mend.ts")).retry(ids, options, signal));

  verb(
    lab
      .command("rebuild")
      .description("Makes the folder's database anew from its journal; of a Postgres lab, the queue."),
  ).action(async (options) => (await import("./lab-mend.ts")).rebuild(options, signal));
}
