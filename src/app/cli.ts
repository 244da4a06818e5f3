#!/usr/bin/env node
/**
 * `nibble`: the commands, their options and help. Names and defaults are here; what a command does
 * is in its own file. Everything comes through the library's entry.
 */
import { readFileSync } from "node:fs";
import { Command, Option } from "commander";
import { ATTEND_SHAPES, FORMAT_NAMES, SHAPES } from "../index.ts";
import { collect, count, counts, names, number, size } from "./arguments.ts";
import { printBench } from "./bench.ts";
import { printAttendBench } from "./bench-attend.ts";
import { chat } from "./chat.ts";
import { printDiagnosis, writeKernels } from "./doctor.ts";
import { EXIT_CODES, report } from "./exit.ts";
import { printInspection } from "./inspect.ts";
import { watchInterrupts } from "./interrupt.ts";
import { kvOption } from "./kv-option.ts";
import { labCommands } from "./lab-commands.ts";
import { printModels, removeInstalled } from "./models.ts";
import { printPlan } from "./plan.ts";
import { printPull } from "./pull.ts";
import { quantizeCommand } from "./quantize.ts";
import { run } from "./run.ts";
import { serve } from "./serve.ts";
import { serveCommand } from "./serve-command.ts";
import { printable } from "./terminal.ts";
import { printVerification } from "./verify.ts";

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));

/** The options of the commands that compute: what, and over which cache. */
function computing(command: Command, kv = kvOption()): Command {
  return command
    .addOption(kv)
    .addOption(
      new Option("--device <name>", "what computes (default: the GPU if there is one, else the CPU)").choices(
        ["gpu", "cpu"],
      ),
    )
    .option("--adapter <name>", "which GPU, by a part of its name (default: the discrete one)")
    .addOption(
      new Option("--kernels <set>", "which kernels a GPU uses (default: the fastest there)").choices([
        ...["matrices", "matrices8", "dots", "floats"],
      ]),
    )
    .option("--threads <count>", "CPU threads (default: the physical cores)", count)
    .option("--wide-simd", "on the CPU vectors of 256 bits, an experiment of V8's (Node 24 or later, x64)");
}

/** What memory a plan may take, in the units in which memory is sold. */
const memoryOption = () =>
  new Option(
    "--memory <size>",
    "plan with so much memory, such as 64GB, as 2^30 bytes each (default: what this machine says)",
  ).argParser(size);

/** The options of the commands that answer: model, device and sampling. */
function answering(command: Command): Command {
  return computing(
    command
      .option(
        "--context <tokens>",
        "context to hold (default: the longest that fits, as far as trained)",
        count,
      )
      .addOption(memoryOption()),
  )
    .option(
      "--temperature <number>",
      "0: always the most likely token (default of this and the next four: as the model's makers say, else 0.7)",
      number,
    )
    .option("--top-k <count>", "keep the k most likely tokens; 0 or -1: all (else: 40)", number)
    .option("--top-p <number>", "keep the likeliest that sum to p (else: 0.95)", number)
    .option("--min-p <number>", "drop tokens below p times the likeliest (else: 0.05)", number)
    .option("--repeat-penalty <number>", "weaken the last 64 tokens; 1: off (else: 1)", number)
    .option(
      "--seed <integer>",
      "for the same text again; of 64 bits the lowest 32 count (default, -1: from the clock)",
      number,
    )
    .option(
      "--guess <tokens>",
      "tokens guessed ahead from what the text says already, and checked in one step: 0 (none) to 15, used where that is faster (default: 15)",
      count,
    )
    .option("--draft <model>", "a small model with the same tokens that guesses what the model will say")
    .option("--offline", "take hf: models from the disk, never from the net");
}

function commands(signal: AbortSignal): Command {
  const program = new Command("nibble")
    .description("Language models with long contexts on this machine, over a 4-bit KV cache.")
    .version(version)
    // `bench` and `bench attend` share names of options: each takes those after it.
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      outputError: (text, write) =>
        write(
          `${printable(
            text
              .trim()
              .replace(/^error: /, "nibble: ")
              .replaceAll("\n", " "),
          )}\n`,
        ),
    })
    .addHelpText(
      "after",
      `\nExit codes:\n${EXIT_CODES.map(([code, text]) => `  ${String(code).padEnd(5)}${text}`).join("\n")}`,
    );

  const runs = program
    .command("run")
    .description("Answers one prompt; the answer streams to stdout.")
    .argument(
      "<model>",
      'a GGUF file, a safetensors folder, hf:owner/name[:quant], or "needle", which ships with nibble',
    )
    .argument("<prompt>", 'the question; "-" reads it from stdin')
    .option(
      "-f, --file <file>",
      'put a document in front: text, PDF or DOCX; "-" reads stdin; may be repeated',
      collect,
      [],
    )
    .option("--system <text>", "system message")
    .option(
      "-n, --tokens <count>",
      "most tokens to generate (default: 16384, fewer where they repeat themselves)",
      count,
    );
  answering(runs)
    .option("--stop <text>", "end at this text; may be repeated", collect, [])
    .option("--ignore-end", "go on past the model's end tokens")
    .option("--raw", "the prompt as it is, without the chat template")
    .option("--json", "one JSON object at the end instead of the streamed text")
    .action((model, prompt, options) => run(model, prompt, options, signal));

  const chats = program
    .command("chat")
    .description("Talks with a model in this terminal, or through a pipe, a message a line.")
    .argument("<model>", "what `run` takes")
    .option("-f, --file <file>", "put a document in front: text, PDF or DOCX; may be repeated", collect, [])
    .option("--system <text>", "system message")
    .option(
      "-n, --tokens <count>",
      "most tokens of an answer (default: 16384, fewer where they repeat themselves)",
      count,
    );
  answering(chats)
    .option("--think", "let a model reason that does so only on request")
    .option("--no-think", "do not let it reason, where its template can say so")
    .action((model, options) => chat(model, options, signal));

  answering(serveCommand(program)).action((models, options) => serve(models, options, signal));

  program
    .command("inspect")
    .description("Shows shape, tensors, tokenizer, chat template and KV cache sizes of a model.")
    .argument("<file>", "what `run` takes; hf: models are read where they lie")
    .option("--offline", "take hf: models from the disk, never from the net")
    .option("--json", "everything as one JSON object")
    .option("--template", "only the chat template")
    .action((file, options) => printInspection(file, options, signal));

  program
    .command("pull")
    .description("Downloads a model from the Hub, or the rest of it, and prints its path.")
    .argument(
      "<model>",
      "hf:owner/name, then @revision, and :Q8_0 or :file.gguf (default: Q4_K_M or the next best)",
    )
    .option("--connections <count>", "requests at a time (default: 4)", count)
    .option("--offline", "only look whether it is here")
    .option("--json", "path, commit and files as one JSON object")
    .addHelpText(
      "after",
      `
An interrupted download goes on where it stopped. Files lie in the cache of Python's huggingface_hub.
Environment: HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_HUB_OFFLINE.`,
    )
    .action((model, options) => printPull(model, options, signal));

  const models = program
    .command("models")
    .enablePositionalOptions()
    .helpCommand(false)
    .description(
      "Lists the models on this disk, and real ones to begin with, with the contexts that fit here.",
    )
    .addOption(memoryOption())
    .option("--json", "everything as one JSON object")
    .action((options) => printModels(options, signal));
  models
    .command("rm")
    .description(
      "Takes a downloaded model from the disk: its files, or without :quantization the repository.",
    )
    .argument("<model>", "hf:owner/name, with :Q8_0 or :file.gguf after it for one of several")
    .action((name) => removeInstalled(name, signal));

  quantizeCommand(program, signal);

  program
    .command("plan")
    .description("Shows what fits: memory by part, contexts by format, and what other engines would need.")
    .argument("<model>", `what \`run\` takes, or a shape: ${Object.keys(SHAPES).join(", ")}`)
    .addOption(memoryOption())
    .option("--context <tokens>", "context to hold (default: the longest that fits)", count)
    .addOption(kvOption())
    .addOption(
      new Option(
        "--device <name>",
        "what computes (default: a GPU if there is one or with --memory)",
      ).choices(["gpu", "cpu"]),
    )
    .option("--type <name>", "with a shape: q4_0 (default), q4_k_m, q4_k, q8_0, f16, iq3_s, iq2_s or iq2_xxs")
    .option("--offline", "take hf: models from the disk, never from the net")
    .option("--json", "everything as one JSON object")
    .action((model, options) => printPlan(model, options, signal));

  program
    .command("doctor")
    .description(
      "Examines this machine: GPUs, limits, memory speed, what will be used and why, what to change.",
    )
    .option("--json", "everything as one JSON object")
    .option("--kernels <folder>", "write the GPU's kernels there as WGSL, and examine nothing")
    .action((options) =>
      options.kernels ? writeKernels(options.kernels, signal) : printDiagnosis(version, options, signal),
    );

  const benches = program.command("bench").enablePositionalOptions().helpCommand(false);
  computing(
    benches
      .description("Measures prompt and generation speed at depths, in llama-bench's rows.")
      .argument("[model]", "what `run` takes; or none, with --shape")
      .addOption(
        new Option("-p, --prompt <tokens>", "lengths of prompts, separated by commas; 0: none")
          .argParser(counts)
          .default([512], "512"),
      )
      .addOption(
        new Option("-n, --generate <tokens>", "lengths of generations; 0: none")
          .argParser(counts)
          .default([128], "128"),
      )
      .addOption(
        new Option("-d, --depth <tokens>", "tokens that the cache holds before each test")
          .argParser(counts)
          .default([0], "0"),
      )
      .option("-r, --repetitions <count>", "times that each test runs", count, 3)
      .option(
        "--parallel <counts>",
        "texts at once, each with a prompt and a generation, in llama-batched-bench's rows",
        counts,
      )
      .option(
        "--quote <file>",
        "answers that quote this text, with and without guessing ahead, in turn: other rows",
      )
      .option("--draft <model>", "with --quote: a small model with the same tokens that guesses, too")
      .option("--profile", "GPU time by operation, too")
      .option("--shape <name>", `random weights in the shape of: ${Object.keys(SHAPES).join(", ")}`)
      .option("--layers <count>", "with --shape: another number of layers", count)
      .option("--vocab <count>", "with --shape: another vocabulary", count)
      .option(
        "--type <name>",
        "with --shape: q4_0 (default), q4_k_m, q4_k, q8_0, f16, iq3_s, iq2_s or iq2_xxs",
      ),
  )
    .addOption(memoryOption())
    .option("--chunk <tokens>", "tokens of a prompt read at once (default: what suits the device)", count)
    .option("--offline", "take hf: models from the disk, never from the net")
    .option("--json", "one JSON object a line")
    .action((model, options) => printBench(model, options, signal));

  computing(
    benches
      .command("attend")
      .description("Measures attention of one layer: by shape, KV format and context, in microseconds.")
      .option(
        "--shape <shapes>",
        `query heads/KV heads x head size (default: ${ATTEND_SHAPES.join(",")})`,
        names,
      )
      .option(
        "--tokens <counts>",
        "cached tokens that one query attends to; 0: none (default: 1024 to 131072)",
        counts,
      )
      .option(
        "--prompt <counts>",
        "cached tokens that a chunk of a prompt attends to; 0: none (default: 512 to 65536)",
        counts,
      )
      .option("--queries <count>", "tokens of that chunk (default: 512)", count)
      .option("--no-dequantized", "leave out the baseline that expands the cache to f16 before each step"),
    new Option("--kv <formats>", "formats of keys and values (default: all that the device has)").argParser(
      names,
    ),
  )
    .option("--json", "one JSON object a line, a measurement each")
    .option("--svg <file>", "also a plot of the first shape: microseconds by context")
    .action((options) => printAttendBench(options, signal));

  computing(
    program
      .command("verify")
      .description("Compares compressed caches with f16 on a text: KL divergence, same top token, needles.")
      .argument("<model>", "what `run` takes")
      .option("--text <file>", 'what is read; "-": stdin (default: six chapters of a novel, which ship)')
      .option("--positions <count>", "positions measured from each depth on (default: 256)", count)
      .option(
        "--depths <tokens>",
        "tokens in front of them, separated by commas (default: 0,1024,4096 and on a GPU 16384, as far as they fit)",
        counts,
      )
      .option("--context <tokens>", "the longest that a default depth may need", count)
      .option("--needles <documents>", "documents of five needles at each depth; 0: none (default: 2)", count)
      .option("--layers", "also each layer alone in each format: one reading of the text for every layer")
      .addOption(memoryOption())
      .option("--chunk <tokens>", "tokens read at once (default: what suits the device)", count),
    new Option(
      "--kv <formats>",
      `formats to compare with f16, separated by commas (default: ${FORMAT_NAMES.filter((name) => name !== "f16").join(",")})`,
    ).argParser(names),
  )
    .option("--offline", "take hf: models from the disk, never from the net")
    .option("--json", "one JSON object a line")
    .option(
      "--against <model>",
      "instead of formats, a file quantized from this model: what its weights cost, both over an f16 cache",
    )
    .option("--html <file>", "also a report with plots, in one file")
    .option("--csv <file>", "also all rows as a table, for other programs")
    .option(
      "--method <name>",
      "instead of formats a method of the lab (kivi, turbo, ...) or a file with your own, on the CPU; may be repeated",
      collect,
      [],
    )
    .addHelpText(
      "after",
      `
Ctrl-C ends it with what has been measured. The model is loaded once for each format; the logits over f16 wait in a temporary file (TMPDIR) of positions x
vocabulary x 4 bytes: 1 GiB for the defaults and a vocabulary of 262,144.`,
    )
    .action((model, options) => printVerification(model, options, signal));

  labCommands(program, signal);
  return program;
}

// Node ends silently with code 13 when nothing is left to wait for but the command has not finished: a bug of ours.
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
