/**
 * The commands of `nibble`, their options and help. Names and defaults are here; what a command does is in its own file, which
 * is loaded when it is called: the server and the lab take a third of the start.
 */
import { readFileSync } from "node:fs";
import { Command, Option } from "commander";
import { ATTEND_SHAPES, FORMAT_NAMES, SHAPES } from "../index.ts";
import { collect, count, counts, names, number, size } from "./arguments.ts";
import { EXIT_CODES } from "./exit.ts";
import { kvOption } from "./kv-option.ts";
import { labCommands } from "./lab-commands.ts";
import { quantizeCommand } from "./quantize.ts";
import { serveCommand } from "./serve-command.ts";
import { printable } from "./terminal.ts";

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));

/** The options of the commands that compute: what, and over which cache. */
function computing(command: Command, kv = kvOption()): Command {
  return command
    .addOption(kv)
    .addOption(
      new Option("--device <name>", "device to use (default: the GPU if there is one, else the CPU)").choices(
        ["gpu", "cpu"],
      ),
    )
    .option("--adapter <name>", "GPU to use, by a part of its name (default: the discrete one)")
    .addOption(
      new Option("--kernels <set>", "kernels to use on a GPU (default: the fastest)").choices([
        ...["matrices", "matrices8", "dots", "floats"],
      ]),
    )
    .option("--threads <count>", "CPU threads (default: the physical cores)", count)
    .option("--wide-simd", "256-bit vectors on the CPU, an experiment of V8's (Node 24 or later, x64)");
}

/** The memory that a plan may use, in the units in which memory is sold. */
const memoryOption = () =>
  new Option(
    "--memory <size>",
    "plan with this much memory, such as 64GB; 1GB is 2^30 bytes (default: what the system reports)",
  ).argParser(size);

/** The options of the commands that answer: model, device and sampling. */
function answering(command: Command): Command {
  return computing(
    command
      .option(
        "--context <tokens>",
        "context length (default: the longest that fits, up to the trained length)",
        count,
      )
      .addOption(memoryOption()),
  )
    .option(
      "--temperature <number>",
      "0: always the most likely token (default of this and the next four: the model makers' settings, else 0.7)",
      number,
    )
    .option("--top-k <count>", "keep the k most likely tokens; 0 or -1: all (else: 40)", number)
    .option("--top-p <number>", "keep the most likely tokens that sum to p (else: 0.95)", number)
    .option("--min-p <number>", "drop tokens below p times the most likely one (else: 0.05)", number)
    .option("--repeat-penalty <number>", "penalty for the last 64 tokens; 1: off (else: 1)", number)
    .option(
      "--seed <integer>",
      "makes results repeatable; only the lowest 32 bits count (default, -1: from the clock)",
      number,
    )
    .option(
      "--guess <tokens>",
      "most tokens to guess ahead from the text so far and check in one step, if that is faster: 0 (off) to 15 (default: 15)",
      count,
    )
    .option("--draft <model>", "a small model with the same tokens that guesses ahead")
    .option("--offline", "load hf: models only from the disk, never from the network");
}

/** signal ends the command that runs; its reason is the exit code. */
export function commands(signal: AbortSignal): Command {
  const program = new Command("nibble")
    .description("Runs language models with long contexts on this machine, with a 4-bit KV cache.")
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
      'document to put before the prompt: text, PDF or DOCX; "-" reads stdin; may be repeated',
      collect,
      [],
    )
    .option("--system <text>", "system message")
    .option(
      "-n, --tokens <count>",
      "most tokens to generate (default: 16384, fewer if they repeat themselves)",
      count,
    );
  answering(runs)
    .option("--stop <text>", "end at this text; may be repeated", collect, [])
    .option("--ignore-end", "continue past the model's end tokens")
    .option("--raw", "use the prompt without the chat template")
    .option("--json", "one JSON object at the end instead of the streamed text")
    .action(async (model, prompt, options) => (await import("./run.ts")).run(model, prompt, options, signal));

  const chats = program
    .command("chat")
    .description("Chats with a model in this terminal, or through a pipe with one message per line.")
    .argument("<model>", "what `run` takes")
    .option("-f, --file <file>", "document to begin with: text, PDF or DOCX; may be repeated", collect, [])
    .option("--system <text>", "system message")
    .option(
      "-n, --tokens <count>",
      "most tokens of an answer (default: 16384, fewer if they repeat themselves)",
      count,
    );
  answering(chats)
    .option("--think", "enable reasoning in a model that reasons only on request")
    .option("--no-think", "disable reasoning, if the model's template supports it")
    .action(async (model, options) => (await import("./chat.ts")).chat(model, options, signal));

  answering(serveCommand(program)).action(async (models, options) =>
    (await import("./serve.ts")).serve(models, options, signal),
  );

  program
    .command("inspect")
    .description("Shows shape, tensors, tokenizer, chat template and KV cache sizes of a model.")
    .argument("<file>", "what `run` takes; hf: models are read remotely, not downloaded")
    .option("--offline", "load hf: models only from the disk, never from the network")
    .option("--json", "everything as one JSON object")
    .option("--template", "only the chat template")
    .action(async (file, options) => (await import("./inspect.ts")).printInspection(file, options, signal));

  program
    .command("pull")
    .description("Downloads a model from the Hub, or resumes its download, and prints its path.")
    .argument(
      "<model>",
      "hf:owner/name, then @revision, and :Q8_0 or :file.gguf (default: Q4_K_M or the next best)",
    )
    .option("--connections <count>", "requests at a time (default: 4)", count)
    .option("--offline", "only check whether it is on the disk")
    .option("--json", "path, commit and files as one JSON object")
    .addHelpText(
      "after",
      `
An interrupted download resumes where it stopped. Files are stored in the cache of Python's huggingface_hub.
Environment: HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_HUB_OFFLINE.`,
    )
    .action(async (model, options) => (await import("./pull.ts")).printPull(model, options, signal));

  const models = program
    .command("models")
    .enablePositionalOptions()
    .helpCommand(false)
    .description(
      "Lists the models on this disk and recommended ones, with the contexts that fit this machine.",
    )
    .addOption(memoryOption())
    .option("--json", "everything as one JSON object")
    .action(async (options) => (await import("./models.ts")).printModels(options, signal));
  models
    .command("rm")
    .description("Deletes a downloaded model: its files, or without :quantization the whole repository.")
    .argument("<model>", "hf:owner/name, followed by :Q8_0 or :file.gguf for one of several")
    .action(async (name) => (await import("./models.ts")).removeInstalled(name, signal));

  quantizeCommand(program, signal);

  program
    .command("plan")
    .description("Shows what fits: memory by part, contexts by format, and what other engines would need.")
    .argument("<model>", `what \`run\` takes, or a shape: ${Object.keys(SHAPES).join(", ")}`)
    .addOption(memoryOption())
    .option("--context <tokens>", "context length (default: the longest that fits)", count)
    .addOption(kvOption())
    .addOption(
      new Option(
        "--device <name>",
        "device to plan for (default: a GPU if there is one or with --memory)",
      ).choices(["gpu", "cpu"]),
    )
    .option("--type <name>", "with a shape: q4_0 (default), q4_k_m, q4_k, q8_0, f16, iq3_s, iq2_s or iq2_xxs")
    .option("--offline", "load hf: models only from the disk, never from the network")
    .option("--json", "everything as one JSON object")
    .action(async (model, options) => (await import("./plan.ts")).printPlan(model, options, signal));

  program
    .command("doctor")
    .description(
      "Examines this machine: GPUs, limits, memory speed, which device is used and why, and what to change.",
    )
    .option("--json", "everything as one JSON object")
    .option("--kernels <folder>", "only write the GPU's kernels to this folder, as WGSL")
    .action(async (options) => {
      const { printDiagnosis, writeKernels } = await import("./doctor.ts");
      return options.kernels
        ? writeKernels(options.kernels, signal)
        : printDiagnosis(version, options, signal);
    });

  const benches = program.command("bench").enablePositionalOptions().helpCommand(false);
  computing(
    benches
      .description("Measures prompt and generation speed at several depths, in llama-bench's rows.")
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
        "measure answers that quote this text, with and without guessing ahead, in separate rows",
      )
      .option("--draft <model>", "with --quote: a small model with the same tokens that also guesses")
      .option("--profile", "also GPU time by operation")
      .option("--shape <name>", `random weights in the shape of: ${Object.keys(SHAPES).join(", ")}`)
      .option("--layers <count>", "with --shape: another number of layers", count)
      .option("--vocab <count>", "with --shape: another vocabulary", count)
      .option(
        "--type <name>",
        "with --shape: q4_0 (default), q4_k_m, q4_k, q8_0, f16, iq3_s, iq2_s or iq2_xxs",
      ),
  )
    .addOption(memoryOption())
    .option("--chunk <tokens>", "tokens of a prompt read at once (default: the device's best)", count)
    .option("--offline", "load hf: models only from the disk, never from the network")
    .option("--json", "one JSON object per line")
    .action(async (model, options) => (await import("./bench.ts")).printBench(model, options, signal));

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
    .option("--json", "one JSON object per line and measurement")
    .option("--svg <file>", "also a plot of the first shape: microseconds by context")
    .action(async (options) => (await import("./bench-attend.ts")).printAttendBench(options, signal));

  computing(
    program
      .command("verify")
      .description("Compares compressed caches with f16 on a text: KL divergence, same top token, needles.")
      .argument("<model>", "what `run` takes")
      .option(
        "--text <file>",
        'text to read; "-": stdin (default: six chapters of a novel, which are included)',
      )
      .option("--positions <count>", "positions measured from each depth on (default: 256)", count)
      .option(
        "--depths <tokens>",
        "tokens before these positions, separated by commas (default: 0,1024,4096 and on a GPU 16384, if they fit)",
        counts,
      )
      .option("--context <tokens>", "limit for the default depths", count)
      .option("--needles <documents>", "documents of five needles at each depth; 0: none (default: 2)", count)
      .option("--layers", "also each layer alone in each format: one reading of the text for every layer")
      .addOption(memoryOption())
      .option("--chunk <tokens>", "tokens read at once (default: the device's best)", count),
    new Option(
      "--kv <formats>",
      `formats to compare with f16, separated by commas (default: ${FORMAT_NAMES.filter((name) => name !== "f16").join(",")})`,
    ).argParser(names),
  )
    .option("--offline", "load hf: models only from the disk, never from the network")
    .option("--json", "one JSON object per line")
    .option(
      "--against <model>",
      "instead of formats: measure what the weights of this file, quantized from the model, cost (f16 cache)",
    )
    .option("--html <file>", "also a report with plots, in one file")
    .option("--csv <file>", "also all rows as a table, for other programs")
    .option(
      "--method <name>",
      "instead of formats: a method of the lab (kivi, turbo, ...) or a file with your own, on the CPU; may be repeated",
      collect,
      [],
    )
    .addHelpText(
      "after",
      `
Ctrl-C ends it and keeps what has been measured. The model is loaded once for each format. The logits of f16 are stored in a temporary file
(TMPDIR) of positions x vocabulary x 4 bytes: 1 GiB for the defaults and a vocabulary of 262,144.`,
    )
    .action(async (model, options) =>
      (await import("./verify.ts")).printVerification(model, options, signal),
    );

  labCommands(program, signal);
  return program;
}
