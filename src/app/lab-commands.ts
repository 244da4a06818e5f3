/**
 * `nibble lab`: its verbs and their options. Each verb's file is loaded when it is called, so that other commands do not
 * load the lab.
 */
import { type Command, Option } from "commander";
import { collect, duration, names, number, positive, workers } from "./arguments.ts";
import { workCommands } from "./lab-work-commands.ts";

const FOLDER = "nibble-lab";

/** Options of all verbs. */
function verb(command: Command): Command {
  return command
    .option("--folder <path>", "the lab's folder", FOLDER)
    .option("--db <url>", "postgres://..., or a folder, for a lab shared by many processes")
    .option(
      "--method <file>",
      "your own method: a module with a method as its default export; may be repeated",
      collect,
      [],
    )
    .option("--json", "print JSON instead of text");
}

const splitOption = () =>
  new Option("--split <name>", "only texts of: search, holdout (default: both)").choices([
    "search",
    "holdout",
  ]);

export function labCommands(program: Command, signal: AbortSignal): void {
  const lab = program
    .command("lab")
    .description(
      "Measures what KV cache formats cost models: experiments, their results, contrasts, a report.",
    )
    .helpCommand(false)
    .addHelpText(
      "after",
      `
A first look, offline:  nibble lab run        (two minutes, then nibble-lab/report.html)
A spec is given by its label, the beginning of its id, or JSON. Everything is stored in nibble-lab/journal.jsonl.`,
    );

  verb(
    lab
      .command("run")
      .description("Proposes experiments, runs them, and writes a report; continues where it was stopped.")
      .argument("[study]", "a study's file: JSON with models, specs, rungs, texts, seed (default: a search)")
      .option("--models <names>", "what `nibble run` takes, separated by commas (default: needle)", names)
      .option(
        "--for <time>",
        "time limit, such as 90s, 2m, 1h (default: 90s; for a study of specs: until it is done)",
        duration,
      )
      .option("--experiments <count>", "stop after this many experiments", positive)
      .option(
        "--workers <count>",
        "worker processes; others may join with `nibble lab work` (default: this one)",
        workers,
      )
      .option(
        "--llm <url>",
        "let a language model propose, too, through an API like OpenAI's, such as nibble serve (key: NIBBLE_LLM_KEY)",
      )
      .option("--llm-model <name>", "model of that API")
      .option("--text <file>", "prose to read (default: chapters of a novel, which are included)")
      .option("--holdout <file>", "prose to confirm on (default: the last third of the text)")
      .addOption(
        new Option("--device <name>", "device to use").choices(["cpu", "gpu", "reference"]).default("cpu"),
      )
      .option("--threads <count>", "CPU threads (default: the physical cores)", positive)
      .option("--offline", "load hf: models only from the disk, never from the network"),
  ).action(async (study, options) => (await import("./lab-run.ts")).runLab(study, options, signal));

  verb(
    lab
      .command("contrast")
      .description(
        "Compares specs A and B on the same positions: ratios of mean KL by model, with intervals, and flips.",
      )
      .argument("<a>", "a spec")
      .argument("<b>", "the spec to compare with")
      .addOption(
        new Option("--device <name>", "device of the measurements; gpu/cpu: a on a GPU, b on a CPU")
          .choices(["cpu", "gpu", "gpu/cpu"])
          .default("cpu"),
      )
      .option("--by <fact>", "group models by: model, or a property such as qkNorm, headDim, family", "model")
      .addOption(splitOption()),
  ).action(async (a, b, options) => (await import("./lab-verbs.ts")).contrastSpecs(a, b, options, signal));

  verb(
    lab
      .command("best")
      .description("Lists the best specs of every size, by model.")
      .option("--bits <number>", "at most this many bits per value", number)
      .option("--model <name>", "only this model")
      .addOption(
        new Option("--device <name>", "device of the measurements").choices(["cpu", "gpu"]).default("cpu"),
      )
      .addOption(splitOption()),
  ).action(async (options) => (await import("./lab-verbs.ts")).best(options, signal));

  verb(
    lab
      .command("ask")
      .description("Searches results: by words, by structure, or near a spec.")
      .argument("[words]", "words in labels and notes")
      .option("--where <conditions>", 'such as "method=rq4 keyBits<=4 recent>0"')
      .option("--near <spec>", "a spec; the nearest are listed first"),
  ).action(async (words, options) => (await import("./lab-verbs.ts")).askLab(words, options, signal));

  verb(
    lab
      .command("propose")
      .description("Requests a measurement of a spec; the next `lab run` does it first.")
      .argument("<spec>", "a label, an id, or JSON")
      .requiredOption("--on <model>", "a model that the lab has measured")
      .addOption(new Option("--device <name>", "device to measure on").choices(["cpu", "gpu"]).default("cpu"))
      .option("--reason <text>", "why", "")
      .option("--predict <ratio>", "prediction: its mean KL divided by that of --over is below this", number)
      .option("--over <spec>", "the spec that the prediction compares with")
      .option("--by <name>", "name of the proposer", "human"),
  ).action(async (spec, options) => (await import("./lab-propose.ts")).propose(spec, options, signal));

  verb(
    lab
      .command("note")
      .description("Records an insight, a hypothesis or a finding.")
      .argument("<text>", "its text")
      .addOption(
        new Option("--kind <kind>", "kind of note")
          .choices(["insight", "hypothesis", "finding"])
          .default("insight"),
      )
      .option("--evidence <ids>", "experiments or specs, separated by commas", names, [])
      .option("--by <name>", "name of the author", "human"),
  ).action(async (text, options) => (await import("./lab-propose.ts")).note(text, options, signal));

  verb(
    lab
      .command("report")
      .description("Writes all results as one HTML page, with plots.")
      .option("--html <file>", "file to write (default: report.html in the lab's folder)"),
  ).action(async (options) => (await import("./lab-report.ts")).writeReport(options, signal));

  verb(
    lab
      .command("status")
      .description("Shows finished, waiting and failed experiments, plateaus and predictions."),
  ).action(async (options) => (await import("./lab-verbs.ts")).status(options, signal));

  verb(
    lab
      .command("export")
      .description("Prints the journal: entries as JSON lines, which other labs can import.")
      .option("--without-losses", "without losses by position: figures only"),
  ).action(async (options) => (await import("./lab-share.ts")).exportLab(options, signal));

  verb(
    lab
      .command("import <file>")
      .description(
        'Adds another lab\'s entries from a file of `lab export`, or "-" for stdin; existing entries are not changed.',
      ),
  ).action(async (file, options) => (await import("./lab-share.ts")).importLab(file, options, signal));

  workCommands(lab, verb, signal);
}
