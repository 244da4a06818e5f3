/**
 * `nibble lab`: its verbs and their options. Owns names and defaults; each verb's file is loaded when it is called, so that no
 * other command pays for the lab.
 */
import { type Command, Option } from "commander";
import { collect, duration, names, number, positive, workers } from "./arguments.ts";
import { workCommands } from "./lab-work-commands.ts";

const FOLDER = "nibble-lab";

/** What all verbs have. */
function verb(command: Command): Command {
  return command
    .option("--folder <path>", "the lab's folder", FOLDER)
    .option("--db <url>", "postgres://..., or a folder: a lab that many processes share")
    .option(
      "--method <file>",
      "a method of your own: a module whose default export is one; may be repeated",
      collect,
      [],
    )
    .option("--json", "JSON instead of text");
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
      "Finds out what KV cache formats cost models: experiments, their memory, contrasts, a report.",
    )
    .helpCommand(false)
    .addHelpText(
      "after",
      `
A first look, offline:  nibble lab run        (two minutes, then nibble-lab/report.html)
Specs are named by their label, the beginning of their id, or JSON. Everything is kept in nibble-lab/journal.jsonl.`,
    );

  verb(
    lab
      .command("run")
      .description("Proposes experiments, runs them, and writes a report; goes on where it was stopped.")
      .argument("[study]", "a study's file: JSON with models, specs, rungs, texts, seed (default: a search)")
      .option("--models <names>", "what `nibble run` takes, separated by commas (default: needle)", names)
      .option(
        "--for <time>",
        "so long, such as 90s, 2m, 1h (default: 90s; a study of specs: until it is done)",
        duration,
      )
      .option("--experiments <count>", "stop after this many", positive)
      .option(
        "--workers <count>",
        "processes that compute; others may join with `nibble lab work` (default: this one)",
        workers,
      )
      .option(
        "--llm <url>",
        "let a language model propose, too: an API like OpenAI's, such as that of nibble serve (its key: NIBBLE_LLM_KEY)",
      )
      .option("--llm-model <name>", "its model there")
      .option("--text <file>", "prose to read (default: a novel's chapters, which ship)")
      .option("--holdout <file>", "prose to confirm on (default: the last third of the text)")
      .addOption(
        new Option("--device <name>", "what computes").choices(["cpu", "gpu", "reference"]).default("cpu"),
      )
      .option("--threads <count>", "CPU threads (default: the physical cores)", positive)
      .option("--offline", "take hf: models from the disk, never from the net"),
  ).action(async (study, options) => (await import("./lab-run.ts")).runLab(study, options, signal));

  verb(
    lab
      .command("contrast")
      .description(
        "Spec A against spec B on the same positions: ratios of mean KL by model, with intervals, and flips.",
      )
      .argument("<a>", "a spec")
      .argument("<b>", "the spec that it is compared with")
      .addOption(
        new Option("--device <name>", "where both were measured; gpu/cpu: a on a GPU, b on a CPU")
          .choices(["cpu", "gpu", "gpu/cpu"])
          .default("cpu"),
      )
      .option("--by <fact>", "groups of models: model, or a fact such as qkNorm, headDim, family", "model")
      .addOption(splitOption()),
  ).action(async (a, b, options) => (await import("./lab-verbs.ts")).contrastSpecs(a, b, options, signal));

  verb(
    lab
      .command("best")
      .description("The best specs of every size, by model.")
      .option("--bits <number>", "at most this many bits a value", number)
      .option("--model <name>", "only this one")
      .addOption(
        new Option("--device <name>", "where they were measured").choices(["cpu", "gpu"]).default("cpu"),
      )
      .addOption(splitOption()),
  ).action(async (options) => (await import("./lab-verbs.ts")).best(options, signal));

  verb(
    lab
      .command("ask")
      .description("What is known: by words, by structure, or near a spec.")
      .argument("[words]", "in labels and notes")
      .option("--where <conditions>", 'such as "method=rq4 keyBits<=4 recent>0"')
      .option("--near <spec>", "nearest first"),
  ).action(async (words, options) => (await import("./lab-verbs.ts")).askLab(words, options, signal));

  verb(
    lab
      .command("propose")
      .description("Asks for a spec to be measured; the next `lab run` does it first.")
      .argument("<spec>", "a label, an id, or JSON")
      .requiredOption("--on <model>", "a model that the lab has measured")
      .addOption(
        new Option("--device <name>", "where it shall be measured").choices(["cpu", "gpu"]).default("cpu"),
      )
      .option("--reason <text>", "why", "")
      .option("--predict <ratio>", "its mean KL over that of --over is below this", number)
      .option("--over <spec>", "what the prediction compares with")
      .option("--by <name>", "who proposes", "human"),
  ).action(async (spec, options) => (await import("./lab-propose.ts")).propose(spec, options, signal));

  verb(
    lab
      .command("note")
      .description("Keeps an insight, a hypothesis or a finding.")
      .argument("<text>", "what it says")
      .addOption(
        new Option("--kind <kind>", "of note")
          .choices(["insight", "hypothesis", "finding"])
          .default("insight"),
      )
      .option("--evidence <ids>", "experiments or specs, separated by commas", names, [])
      .option("--by <name>", "who says so", "human"),
  ).action(async (text, options) => (await import("./lab-propose.ts")).note(text, options, signal));

  verb(
    lab
      .command("report")
      .description("Writes everything that is known as one HTML page, with plots.")
      .option("--html <file>", "where (default: report.html in the lab's folder)"),
  ).action(async (options) => (await import("./lab-report.ts")).writeReport(options, signal));

  verb(lab.command("status").description("What is done, waits and failed; plateaus and predictions.")).action(
    async (options) => (await import("./lab-verbs.ts")).status(options, signal),
  );

  verb(
    lab
      .command("export")
      .description("Prints the journal: entries as JSON lines, which any other lab imports.")
      .option("--without-losses", "leave out losses by position: figures only"),
  ).action(async (options) => (await import("./lab-share.ts")).exportLab(options, signal));

  verb(
    lab
      .command("import <file>")
      .description(
        'Adds another lab\'s entries out of a file of `lab export`, or "-" for stdin; what is known already is left as it is.',
      ),
  ).action(async (file, options) => (await import("./lab-share.ts")).importLab(file, options, signal));

  workCommands(lab, verb, signal);
}
