/** The verbs of `nibble lab` for many workers, and their options; each one's file is loaded when it is called. */
import { type Command, Option } from "commander";
import { duration, names, positive, workers } from "./arguments.ts";

/** `verb`: adds what all verbs have. */
export function workCommands(lab: Command, verb: (command: Command) => Command, signal: AbortSignal): void {
  verb(
    lab
      .command("work")
      .description("Joins a lab from another terminal, or with --db from another machine.")
      .option(
        "--models <names>",
        "models that it can measure, separated by commas (default: the lab's)",
        names,
      )
      .option("--workers <count>", "experiments at a time, each in its own process", workers, 1)
      .option("--can <names>", "further capabilities of this machine, such as gpu", names, [])
      .addOption(
        new Option("--device <name>", "device to use").choices(["cpu", "gpu", "reference"]).default("cpu"),
      )
      .option("--threads <count>", "CPU threads of each (default: the physical cores)", positive)
      .option("--for <time>", "time limit, such as 90s, 2m, 1h (default: until it is stopped)", duration)
      .option("--experiments <count>", "stop after this many", positive)
      .option("--offline", "load hf: models only from the disk, never from the network"),
  ).action(async (options) => (await import("./lab-work.ts")).workInLab(options, signal));

  verb(
    lab.command("dead").description("Lists experiments that failed three times, with their last errors."),
  ).action(async (options) => (await import("./lab-mend.ts")).showDead(options, signal));

  verb(
    lab
      .command("retry")
      .description("Gives failed experiments another three tries.")
      .argument("[ids...]", "ids of experiments, or their beginnings")
      .option("--all", "all dead experiments"),
  ).action(async (ids, options) => (await import("./lab-mend.ts")).retry(ids, options, signal));

  verb(
    lab
      .command("rebuild")
      .description("Rebuilds the folder's database from its journal; for a Postgres lab, the queue."),
  ).action(async (options) => (await import("./lab-mend.ts")).rebuild(options, signal));
}
